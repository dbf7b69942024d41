"""Time and energy from operations, bytes and a device's figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from coppice_api.base import Provenance
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.estimator import (
    DEVICES,
    Basis,
    DeviceProfile,
    Figure,
    Kind,
    KindCosts,
    Operator,
    estimate,
    load_device,
    load_device_file,
)

HEAVY = Operator("conv", Kind.CONVOLUTION, "convolution", 4e9, 8e9, 1e6, 1e6)
LIGHT = Operator("relu", Kind.ELEMENTWISE, "relu", 0.0, 0.0, 6e7, 0.0)


def figure(value: float) -> Figure:
    return Figure(value=value, basis=Basis.ASSUMED, source="a test")


def device(**values: Any) -> DeviceProfile:
    return DeviceProfile(
        **{
            "name": "a device of round numbers",
            "peak_flops_per_second": {"float32": figure(1e12), "float16": figure(4e12)},
            "bandwidth_bytes_per_second": figure(1e11),
            "operator_seconds": figure(1e-5),
            "idle_watts": figure(10.0),
            "flop_joules": figure(1e-11),
            "byte_joules": figure(1e-10),
            **values,
        }
    )


def test_an_operator_takes_its_launch_and_the_slower_of_computing_and_moving() -> None:
    found = estimate([HEAVY, LIGHT], device(), batch_size=4)
    heavy, light = found.layers
    assert heavy.seconds == pytest.approx(1e-5 + 4e9 / 1e12)
    assert light.seconds == pytest.approx(1e-5 + 6e7 / 1e11)
    assert (heavy.bound, light.bound) == ("compute", "memory")
    assert found.seconds == pytest.approx(heavy.seconds + light.seconds)


def test_energy_is_idle_power_operations_and_bytes() -> None:
    found = estimate([HEAVY], device(), batch_size=4)
    assert found.energy_joules == pytest.approx((10.0 * found.seconds + 4e9 * 1e-11 + 2e6 * 1e-10) / 4)
    assert found.power_watts == pytest.approx(found.energy_joules * 4 / found.seconds)
    assert found.provenance is Provenance.ESTIMATED


def test_half_the_precision_moves_half_the_bytes_but_not_those_of_integers() -> None:
    mixed = dataclasses.replace(LIGHT, floating_share=0.5)
    for operator, want_bytes in ((LIGHT, 3e7), (mixed, 4.5e7)):
        found = estimate([operator], device(), batch_size=1, dtype="float16")
        assert found.layers[0].bytes == pytest.approx(want_bytes)
        assert found.seconds == pytest.approx(1e-5 + want_bytes / 1e11)


def test_a_calibrated_device_adds_up_fitted_terms_in_company() -> None:
    costs = KindCosts(operator_seconds=2e-5, flop_seconds=1e-12, byte_seconds=1e-9, weight_byte_seconds=2e-9)
    calibrated = device(
        fitted={Kind.CONVOLUTION: costs}, company_ratio=1.5, busy_watts=figure(6.0),
    )  # fmt: skip
    found = estimate([HEAVY], calibrated, batch_size=2)
    assert found.seconds == pytest.approx(1.5 * (2e-5 + 8e9 * 1e-12 + 1e6 * 1e-9 + 1e6 * 2e-9))
    assert found.energy_joules == pytest.approx(6.0 * found.seconds / 2)


def test_what_goes_beyond_the_cache_costs_more() -> None:
    costs = KindCosts(byte_seconds=1e-10, spilled_byte_seconds=1e-9)
    calibrated = device(fitted={Kind.ELEMENTWISE: costs}, cache_bytes=figure(5e7))
    assert estimate([LIGHT], calibrated, batch_size=1).seconds == pytest.approx(6e7 * 1e-10 + 1e7 * 1e-9)


def test_other_precisions_than_the_fitted_one_come_from_the_data_sheet() -> None:
    calibrated = device(fitted={Kind.CONVOLUTION: KindCosts(flop_seconds=1.0)})
    found = estimate([HEAVY], calibrated, batch_size=1, dtype="float16")
    assert found.seconds == pytest.approx(1e-5 + 4e9 / 4e12)


def test_a_device_works_on_what_is_queued_and_waits_only_where_operators_are_shorter_than_launching() -> None:
    queued = device(operator_seconds=None, launch_seconds=figure(1e-3))
    view = Operator("flatten", Kind.VIEW, "view", 0.0, 0.0, 0.0, 0.0)
    short = dataclasses.replace(HEAVY, flops=4e7)
    # 4 ms of work hide the launching of two operators; 0.04 ms and 0.6 ms do not.
    assert estimate([HEAVY, LIGHT, view], queued, batch_size=1).seconds == pytest.approx(4e-3 + 6e-4)
    found = estimate([short, LIGHT, view], queued, batch_size=1)
    assert found.seconds == pytest.approx(2e-3)
    assert {item.layer: item.bound for item in found.layers}["conv"] == "overhead"


def test_kinds_that_other_units_compute_have_joules_of_their_own_in_the_fitted_precision() -> None:
    both = device(kind_flop_joules={Kind.CONVOLUTION: figure(5e-11)}, idle_watts=figure(0.0), byte_joules=None)
    assert estimate([HEAVY], both, batch_size=1).energy_joules == pytest.approx(4e9 * 5e-11)
    assert estimate([HEAVY], both, batch_size=1, dtype="float16").energy_joules == pytest.approx(4e9 * 1e-11)


@pytest.mark.parametrize(
    ("profile", "dtype", "message"),
    [
        (device(), "int3", "--dtype int3: use float32, float16, bfloat16"),
        (device(), "bfloat16", "has no peak for it"),
        (
            device(fitted={Kind.CONVOLUTION: KindCosts()}, peak_flops_per_second={}),
            "float16",
            "fitted in float32 only",
        ),
    ],
    ids=["unknown", "no peak", "not fitted"],
)
def test_a_precision_without_figures_is_refused(profile: DeviceProfile, dtype: str, message: str) -> None:
    with pytest.raises(InputRefusedError, match=message):
        estimate([HEAVY], profile, batch_size=1, dtype=dtype)


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_that_comes_with_coppice_names_a_source_for_every_number(name: str) -> None:
    profile = load_device(name)
    figures = [
        value
        for field in vars(profile).values()
        for value in (field.values() if isinstance(field, dict) else (field,))
        if isinstance(value, Figure)
    ]
    assert figures
    for item in figures:
        assert len(item.source) > 10
        if item.basis is Basis.DATASHEET:
            # Title, and the year of the document or of the look at it.
            assert any(str(year) in item.source for year in range(2017, 2027)), item.source
    if profile.busy_watts is None:
        # At its peak and its full bandwidth a board does not draw much more than it may.
        assert estimate([HEAVY], profile, batch_size=1).power_watts < 800


def test_the_calibrated_cpu_says_how_far_off_it_is() -> None:
    fit = load_device("cpu").fit
    assert 0 < fit["cross_validated_median_error_ratio"] < 1
    assert {"samples", "date", "torch", "families"} <= set(fit)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "device profile"),
        ("a.json", '{"name": "x"}', "idle_watts: Field required"),
        ("a.toml", "name = ", "device profile"),
        ("a.json", None, "No such file"),
    ],
    ids=["torn", "a number missing", "not TOML", "absent"],
)
def test_a_profile_that_cannot_be_used_is_refused_with_what_is_wrong(
    name: str, content: str | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputRefusedError, match=message):
        load_device_file(tmp_path / name)


def test_an_unknown_device_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputRefusedError, match="there are a100, cpu, h100"):
        load_device("abacus")
