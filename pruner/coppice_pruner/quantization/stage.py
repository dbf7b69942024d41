"""The trial: pruned, quantized, both, each against the dense model in one go of interleaved windows.

Nothing is believed of integers beforehand. They may save half the energy of a wide layer and cost a narrow one three
times its own, which depends on the shapes, the runtime and the device; so every scheme is measured, and the better one
is kept only if what is claimed for it excludes zero and the answers are still within the budget.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from coppice_api.bundle import Quantized
from coppice_api.prunejob import QuantizationScheme
from coppice_pruner.deployment import Answer
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.measurement import Comparison, Reading, of_readings
from coppice_pruner.quantization.int8 import (
    QuantizationUnavailableError,
    linear_layers,
    quantized,
    reduced_range,
)
from coppice_pruner.training import Quality

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Instruments:
    """What the trial is done with: the run's own runtime, meter, data and budget."""

    prepare: Callable[[nn.Module], Answer]
    compare: Callable[[Answer, Answer], Comparison]
    """The short comparison of the loop's steps."""
    read: Callable[[Sequence[Answer]], Sequence[Sequence[Reading]]]
    """The full one, of any number of models in turn."""
    evaluate: Callable[[Answer], Quality]
    excess: Callable[[Quality], str]
    """How a quality breaks the budget; empty if it does not."""
    device: torch.device


@dataclass(frozen=True)
class Trial:
    """One scheme applied to the model that the loop arrived at."""

    how: Quantized
    comparison: Comparison | None = None
    """Short, of that model with it and without; None where it cannot run here."""
    quality: Quality | None = None
    excess: str = ""
    """How its answers break the budget."""
    problem: str = ""
    """Why it cannot run here."""


@dataclass(frozen=True)
class Way:
    """One way of saving energy, measured in full."""

    comparison: Comparison
    """Against the dense model."""
    quality: Quality
    """Of the answers as they are deployed."""


@dataclass(frozen=True)
class Quantization:
    """What the stage found."""

    trials: tuple[Trial, ...] = ()
    best: Trial | None = None
    """The one measured in full."""
    kept: bool = False
    reason: str = ""
    """Why nothing was kept, for a person."""
    pruning: Way | None = None
    """None if nothing was pruned; `alone` and `both` are one then."""
    alone: Way | None = None
    both: Way | None = None
    module: nn.Module | None = None
    """The best trial's model, folded and quantized."""


def try_int8(dense: nn.Module, pruned: nn.Module | None, instruments: Instruments) -> Quantization:
    """Measure every scheme, and the better one in full.

    Args:
        dense: Folded.
        pruned: The same, of the model that the loop arrived at; None if no step was accepted.
        instruments: Of the run.

    Raises:
        QuantizationUnavailableError: If torchao is missing.
    """
    model = dense if pruned is None else pruned
    if not linear_layers(model):
        return Quantization(reason="the model has no linear layer, and 8-bit convolutions are not supported")
    plain = instruments.prepare(model)
    low = reduced_range(instruments.device)
    schemes = [Quantized(scheme=scheme, reduced_range=low) for scheme in QuantizationScheme]
    tried = [_try(how, model, plain, instruments) for how in schemes]
    trials = tuple(trial for trial, _ in tried)
    able = [(trial, answer) for trial, answer in tried if trial.comparison is not None and answer is not None]
    if not able:
        return Quantization(trials, reason="; ".join(trial.problem for trial in trials))
    best, answer = max(able, key=lambda item: (not item[0].excess, _saved(item[0])))
    answers = {"dense": plain if pruned is None else instruments.prepare(dense)}
    if pruned is not None:
        answers |= {"pruned": plain, "alone": instruments.prepare(quantized(dense, best.how))}
    answers["both"] = answer
    readings = dict(zip(answers, instruments.read(tuple(answers.values())), strict=True))
    gain = of_readings(readings["dense" if pruned is None else "pruned"], readings["both"])

    def way(name: str) -> Way:
        return Way(of_readings(readings["dense"], readings[name]), instruments.evaluate(answers[name]))

    reason = best.excess or ("" if gain.proven else _no_gain(gain))
    return Quantization(
        trials, best, not reason, reason,
        pruning=None if pruned is None else way("pruned"),
        alone=way("both" if pruned is None else "alone"),
        both=way("both"),
        module=quantized(model, best.how),
    )  # fmt: skip


def _try(how: Quantized, model: nn.Module, plain: Answer, instruments: Instruments) -> tuple[Trial, Answer | None]:
    try:
        answer = instruments.prepare(quantized(model, how))
        quality = instruments.evaluate(answer)
        comparison = instruments.compare(plain, answer)
    except QuantizationUnavailableError:
        raise
    except (InputRefusedError, RuntimeError, NotImplementedError) as error:
        # A device or a runtime without a kernel for these shapes: the model without integers is still an answer.
        first = next(iter(str(error).splitlines()), type(error).__name__)
        _log.info("%s cannot run here: %s", how.scheme.value, first)
        return Trial(how, problem=f"{how.scheme.value} cannot run here: {first}"), None
    return Trial(how, comparison, quality, instruments.excess(quality)), answer


def _saved(trial: Trial) -> float:
    assert trial.comparison is not None
    return trial.comparison.energy_reduction_ratio


def _no_gain(gain: Comparison) -> str:
    low, high = gain.energy_reduction_interval
    found = gain.energy_reduction_ratio
    says = f"costs {-found:.1%} more" if found < 0 else f"saves {found:.1%}"
    return f"it {says} energy than without (95 % interval of the saving {low:.1%} to {high:.1%})"
