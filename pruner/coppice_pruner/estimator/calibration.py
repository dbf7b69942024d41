"""Fits a device's figures to samples measured on it: non-negative least squares of relative errors.

A sample is a piece of work with its operators and its time. Each kind of operator has up to five terms
(`device.KindCosts`), all of them sums, so the fit is linear; it is repeated with large errors weighing less, since
what is asked for is a good median and not a good worst case. Kinds are fitted to pieces of models; whole models then
tell what operators cost in company: caches are colder, and modules call each other.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from coppice_pruner.errors import PrunerError
from coppice_pruner.estimator.device import KindCosts
from coppice_pruner.estimator.operators import Kind, Operator
from coppice_pruner.estimator.roofline import spilled_bytes

CACHE_CHOICES_BYTES = (1 << 20, 4 << 20, 16 << 20)
"""Sizes of the cache that are tried."""
_ROUNDS = 8
_SMALL_ERROR = 0.05
"""Below it, all errors weigh alike."""
_TERMS = ("operator_seconds", "flop_seconds", "byte_seconds", "weight_byte_seconds", "spilled_byte_seconds")
_LIKE = {
    Kind.MATMUL: (Kind.POINTWISE, Kind.CONVOLUTION),
    Kind.POINTWISE: (Kind.CONVOLUTION, Kind.MATMUL),
    Kind.CONVOLUTION: (Kind.POINTWISE, Kind.MATMUL),
    Kind.DEPTHWISE: (Kind.CONVOLUTION, Kind.POINTWISE),
    Kind.ATTENTION: (Kind.MATMUL, Kind.POINTWISE, Kind.CONVOLUTION),
    Kind.TRANSCENDENTAL: (Kind.ELEMENTWISE, Kind.REDUCTION),
    Kind.POOLING: (Kind.REDUCTION, Kind.ELEMENTWISE),
    Kind.REDUCTION: (Kind.ELEMENTWISE, Kind.TRANSCENDENTAL),
    Kind.ELEMENTWISE: (Kind.REDUCTION, Kind.TRANSCENDENTAL),
    Kind.VIEW: (Kind.ELEMENTWISE,),
}
"""Where a kind was in no sample, the first of these that was stands in."""


class CalibrationError(PrunerError):
    """Nothing can be fitted to these samples."""


@dataclass(frozen=True)
class Sample:
    """A piece of work, measured."""

    family: str
    model: str
    """The model it is, or is a piece of; cross-validation leaves a model out with its pieces."""
    name: str
    operators: tuple[Operator, ...]
    seconds: float
    whole: bool = False
    """Whether it is a whole model rather than a piece of one."""
    launched_seconds: float | None = None
    """Of a whole model whose operators the host launches one by one, as PyTorch does; `seconds` is what the device
    worked on them. None where that is the same."""
    joules: float | None = None
    """Of a whole model, launched so; None where energy is told from time alone."""


@dataclass(frozen=True)
class Calibration:
    """What a fit found."""

    kinds: Mapping[Kind, KindCosts]
    cache_bytes: float
    median_error_ratio: float
    """On the samples themselves; `cross_validate` says how it does on others."""
    company_ratio: float = 1.0
    """What operators take in a whole model, over what they take by themselves."""

    def model_seconds(self, operators: Sequence[Operator]) -> float:
        """Return the time of a whole model."""
        return self.company_ratio * self.seconds(operators)

    def seconds(self, operators: Sequence[Operator]) -> float:
        """Return the time of some operators by themselves."""
        return float(
            sum(
                value * getattr(self.kinds[kind], term)
                for (kind, term), value in _features(operators, self.cache_bytes).items()
                if kind in self.kinds
            )
        )


def calibrate(samples: Sequence[Sample], *, cache_choices_bytes: Sequence[int] = CACHE_CHOICES_BYTES) -> Calibration:
    """Return the fit to some samples.

    Args:
        samples: Of one device.
        cache_choices_bytes: Sizes of the cache that are tried.

    Raises:
        CalibrationError: If there are none, or one took no time.
    """
    if not samples or any(not item.seconds > 0 for item in samples):
        raise CalibrationError("calibration needs samples, each with a time above zero")
    pieces = [item for item in samples if not item.whole] or list(samples)
    models = [item for item in samples if item.whole]
    fit = min((_fitted(pieces, size) for size in cache_choices_bytes), key=lambda item: item.median_error_ratio)
    if not models:
        return fit
    # One figure: a second one for each operator, fitted to one family, was up to 60 % off on small models of another.
    fit = replace(fit, company_ratio=statistics.median(item.seconds / fit.seconds(item.operators) for item in models))
    return replace(fit, median_error_ratio=median_error_ratio(fit, samples))


def cross_validate(samples: Sequence[Sample]) -> dict[str, float]:
    """Return for each whole model the relative error on it of a fit to everything but it and its pieces.

    Raises:
        CalibrationError: If there are not two models.
    """
    models = [item for item in samples if item.whole]
    if len(models) < 2:
        raise CalibrationError("cross-validation needs two whole models at least")
    result = {}
    for left_out in models:
        others = [item for item in samples if item.model != left_out.model]
        result[left_out.name] = calibrate(others).model_seconds(left_out.operators) / left_out.seconds - 1.0
    return result


def median_error_ratio(fit: Calibration, samples: Sequence[Sample]) -> float:
    """Return the median absolute relative error of a fit on some samples."""
    return statistics.median(
        abs((fit.model_seconds if item.whole else fit.seconds)(item.operators) / item.seconds - 1.0) for item in samples
    )


def _fitted(samples: Sequence[Sample], cache_bytes: float) -> Calibration:
    rows = [_features(item.operators, cache_bytes) for item in samples]
    names = sorted({name for row in rows for name in row})
    matrix = np.array(
        [[row.get(name, 0.0) / item.seconds for name in names] for row, item in zip(rows, samples, strict=True)]
    )
    # Columns of one size, or the solver's tolerance hides the small ones.
    sizes = np.maximum(np.abs(matrix).max(axis=0), 1e-300)
    solution = _solve(matrix / sizes) / sizes
    values = dict(zip(names, solution.tolist(), strict=True))
    kinds = {
        kind: KindCosts(**{term: values[kind, term] for term in _TERMS if (kind, term) in values})
        for kind in Kind
        if any(name[0] is kind for name in names)
    }
    for kind, likes in _LIKE.items():
        stand_in = next((kinds[like] for like in likes if like in kinds), None)
        if kind not in kinds and stand_in is not None and kind is not Kind.VIEW:
            kinds[kind] = stand_in
    errors = np.abs(matrix @ solution - 1.0)
    return Calibration(kinds, cache_bytes, float(np.median(errors)))


def _solve(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the non-negative solution of matrix @ x = 1 with small absolute errors rather than small squares."""
    weights = np.ones(len(matrix))
    solution: NDArray[np.float64] = np.zeros(matrix.shape[1])
    for _ in range(_ROUNDS):
        solution = nnls(matrix * weights[:, None], weights)[0]
        weights = 1.0 / np.sqrt(np.maximum(np.abs(matrix @ solution - 1.0), _SMALL_ERROR))
    return solution


def _features(operators: Sequence[Operator], cache_bytes: float) -> dict[tuple[Kind, str], float]:
    """Return what each term of each kind is multiplied with."""
    result: dict[tuple[Kind, str], float] = {}
    for operator in operators:
        values = (
            1.0, operator.padded_flops, operator.activation_bytes, operator.weight_bytes,
            spilled_bytes(operator, cache_bytes),
        )  # fmt: skip
        for term, value in zip(_TERMS, values, strict=True):
            if value:
                key = (operator.kind, term)
                result[key] = result.get(key, 0.0) + value
    return result
