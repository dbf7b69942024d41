"""What report.html shows of the quantization stage."""

from __future__ import annotations

from coppice_pruner.measurement import Comparison
from coppice_pruner.quantization import Quantization, Trial, Way
from coppice_pruner.report_page import IntegerTrial, Interval, QuantizationPart, QuantizationRow


def quantization_part(found: Quantization, *, perplexity: bool) -> QuantizationPart:
    """Return the part of the page on 8-bit integers.

    Args:
        found: By the stage.
        perplexity: Whether the task's quality is a perplexity.
    """
    scheme = found.best.how.scheme.value if found.best else ""
    ways = {"Pruning alone": found.pruning, f"{scheme} alone": found.alone}
    if found.pruning is not None:
        ways[f"Pruning and {scheme}"] = found.both
    return QuantizationPart(
        "Kept: the bundle and every figure of the pruned model above have it." if found.kept
        else f"Tried and not kept: {found.reason}. The bundle and the figures above are without it.",
        tuple(_row(name, way, perplexity) for name, way in ways.items() if way is not None),
        tuple(_trial(trial) for trial in found.trials),
    )  # fmt: skip


def _row(name: str, way: Way, perplexity: bool) -> QuantizationRow:
    return QuantizationRow(
        name, way.comparison.energy_reduction_ratio, _interval(way.comparison), way.quality.accuracy_ratio,
        way.quality.perplexity if perplexity else None,
    )  # fmt: skip


def _trial(trial: Trial) -> IntegerTrial:
    comparison = trial.comparison
    return IntegerTrial(
        trial.how.scheme.value,
        comparison.energy_reduction_ratio if comparison else None,
        _interval(comparison) if comparison else None,
        trial.problem or trial.excess,
    )


def _interval(comparison: Comparison) -> Interval:
    return Interval(*comparison.energy_reduction_interval)
