"""Fits to samples of a GPU whose figures are known."""

from __future__ import annotations

import dataclasses
import random

import pytest

from coppice_pruner.estimator import CalibrationError, Kind, Operator, Sample, estimate, load_device
from coppice_pruner.estimator.gpu import calibrate_gpu, errors, fitted_gpu_profile
from tests.unit.measurement.devices import Device

IDLE_WATTS, LAUNCH_SECONDS, BYTE_JOULES = 100.0, 2e-5, 2e-10
FLOP_SECONDS = {Kind.CONVOLUTION: 5e-15, Kind.MATMUL: 2e-14}
FLOP_JOULES = {Kind.CONVOLUTION: 2e-12, Kind.MATMUL: 1.3e-11}
BYTE_SECONDS = 1e-12


def operator(draw: random.Random, size: float) -> Operator:
    kind = draw.choice(list(FLOP_SECONDS))
    flops = size * draw.uniform(1e9, 1e10)
    return Operator("layer", kind, kind.value, flops, flops, size * draw.uniform(1e6, 1e8), 0.0)


def working(item: Operator) -> float:
    return FLOP_SECONDS[item.kind] * item.flops + BYTE_SECONDS * item.activation_bytes


def samples(sizes: tuple[float, ...] = (1.0, 1.0, 1.0, 0.01, 0.01, 1.0), seed: int = 0) -> list[Sample]:
    """Models of twenty operators, large and small, each with its pieces."""
    draw = random.Random(seed)
    result = []
    for number, size in enumerate(sizes):
        name = f"model {seed}.{number}"
        operators = tuple(operator(draw, size) for _ in range(20))
        seconds = sum(map(working, operators))
        launched = max(seconds, LAUNCH_SECONDS * len(operators))
        joules = IDLE_WATTS * launched + sum(
            FLOP_JOULES[item.kind] * item.flops + BYTE_JOULES * item.bytes for item in operators
        )
        result.append(Sample("models", name, name, operators, seconds, True, launched, joules))
        result.extend(Sample("models", name, f"{name}, a piece", (item,), working(item)) for item in operators)
    return result


def test_the_figures_of_the_gpu_are_found_again() -> None:
    found = calibrate_gpu(samples(), idle_watts=IDLE_WATTS)
    assert found.launch_seconds == pytest.approx(LAUNCH_SECONDS, rel=1e-3)
    assert found.byte_joules == pytest.approx(BYTE_JOULES, rel=1e-2)
    for kind, joules in FLOP_JOULES.items():
        assert found.flop_joules[kind] == pytest.approx(joules, rel=1e-2)
        assert found.times.kinds[kind].flop_seconds == pytest.approx(FLOP_SECONDS[kind], rel=1e-2)


def test_models_it_never_saw_are_predicted_whether_the_device_or_the_host_is_busy() -> None:
    profile = calibrate_gpu(samples(), idle_watts=IDLE_WATTS).profile(IDLE_WATTS)
    for time_error, energy_error in errors(profile, samples(seed=1)).values():
        assert time_error == pytest.approx(0.0, abs=0.02)
        assert energy_error == pytest.approx(0.0, abs=0.02)


def test_the_profile_says_how_far_off_it_is_and_takes_other_precisions_from_the_data_sheet() -> None:
    meter = Device()
    like = load_device("a100")
    profile = fitted_gpu_profile(samples(), meter, idle_watts=IDLE_WATTS, like=like)
    assert profile.fit["cross_validated_median_error_ratio"] < 0.02
    assert profile.fit["cross_validated_energy_median_error_ratio"] < 0.02
    assert len(profile.fit["cross_validated_errors"]) == 6
    assert profile.peak_flops_per_second == like.peak_flops_per_second
    convolution = next(item for item in samples()[0].operators if item.kind is Kind.CONVOLUTION)
    assert estimate([convolution], profile, batch_size=1, dtype="bfloat16").seconds > 0
    assert fitted_gpu_profile(samples(), meter, idle_watts=IDLE_WATTS).peak_flops_per_second == {}


def test_without_the_joules_of_whole_models_there_is_nothing_to_fit() -> None:
    silent = [dataclasses.replace(item, joules=None) for item in samples()]
    with pytest.raises(CalibrationError, match="joules"):
        calibrate_gpu(silent, idle_watts=IDLE_WATTS)
