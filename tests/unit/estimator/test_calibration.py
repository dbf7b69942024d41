"""Fits to samples of a machine whose figures are known."""

from __future__ import annotations

import random

import pytest

from coppice_pruner.estimator import CalibrationError, Kind, Operator, Sample, calibrate, cross_validate

COSTS = {
    Kind.CONVOLUTION: (1e-5, 5e-12, 1e-10),
    Kind.ELEMENTWISE: (1e-6, 0.0, 4e-12),
    Kind.MATMUL: (3e-6, 1e-11, 2e-11),
}
RATIO = 1.3


def operator(draw: random.Random, kind: Kind) -> Operator:
    flops = 0.0 if kind is Kind.ELEMENTWISE else draw.uniform(1e5, 1e8)
    return Operator("layer", kind, kind.value, flops, flops, draw.uniform(1e3, 1e5), 0.0)


def alone(item: Operator) -> float:
    each, flop, byte = COSTS[item.kind]
    return each + flop * item.flops + byte * item.activation_bytes


def samples(seed: int = 0, *, noise: float = 0.0) -> list[Sample]:
    """Pieces of every kind, and models of ten operators, each with its pieces."""
    draw = random.Random(seed)
    result = []
    for number in range(12):
        name = f"model {number}"
        operators = tuple(operator(draw, draw.choice(list(COSTS))) for _ in range(10))
        seconds = RATIO * sum(alone(item) for item in operators) * draw.uniform(1 - noise, 1 + noise)
        result.append(Sample("models", name, name, operators, seconds, whole=True))
        for item in operators:
            piece = alone(item) * draw.uniform(1 - noise, 1 + noise)
            result.append(Sample("models", name, f"{name}, a piece", (item,), piece))
    return result


def test_the_figures_of_the_machine_are_found_again() -> None:
    fit = calibrate(samples())
    for kind, (each, flop, byte) in COSTS.items():
        assert fit.kinds[kind].operator_seconds == pytest.approx(each, rel=1e-3)
        assert fit.kinds[kind].flop_seconds == pytest.approx(flop, rel=1e-3, abs=1e-15)
        assert fit.kinds[kind].byte_seconds == pytest.approx(byte, rel=1e-2, abs=1e-15)
    assert fit.company_ratio == pytest.approx(RATIO, rel=1e-3)


def test_a_model_that_was_never_seen_is_predicted_within_the_noise() -> None:
    fit = calibrate(samples(noise=0.1))
    for item in samples(seed=1):
        if item.whole:
            assert fit.model_seconds(item.operators) == pytest.approx(item.seconds, rel=0.1)


def test_no_figure_is_ever_negative() -> None:
    fit = calibrate(samples(noise=0.9))
    for costs in fit.kinds.values():
        assert all(value >= 0 for value in costs.model_dump().values())


def test_a_kind_in_no_sample_costs_what_the_most_similar_one_does() -> None:
    fit = calibrate([item for item in samples() if all(part.kind is not Kind.MATMUL for part in item.operators)])
    assert fit.kinds[Kind.MATMUL] == fit.kinds[Kind.CONVOLUTION]


def test_cross_validation_leaves_a_model_out_with_all_its_pieces() -> None:
    # One model lies: only its own error may show it, not that of a fit that had seen it.
    taken = samples()
    liar = taken[0]
    taken[0] = Sample(liar.family, liar.model, liar.name, liar.operators, 2 * liar.seconds, whole=True)
    errors = cross_validate(taken)
    assert errors.pop("model 0") == pytest.approx(-0.5, abs=0.02)
    assert all(abs(error) < 0.05 for error in errors.values())


def test_too_little_to_fit_is_an_error_that_says_so() -> None:
    with pytest.raises(CalibrationError, match="needs samples"):
        calibrate([])
    with pytest.raises(CalibrationError, match="two whole models"):
        cross_validate(samples()[:1])
