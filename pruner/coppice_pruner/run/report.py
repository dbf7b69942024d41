"""What a run reports to machines."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from coppice_api.run import ModelFigures, Outcome, QuantizationReport, RunConfig, RunReport
from coppice_pruner.measurement import circumstances_of, paper_metrics, warnings_of
from coppice_pruner.meters import Meter
from coppice_pruner.quantization import Quantization, Way
from coppice_pruner.run.loop import LoopResult

_MAX_MESSAGE = 1024
_log = logging.getLogger(__name__)


def report_of(
    result: LoopResult, config: RunConfig, meter: Meter, *, run_energy_joules: float, duration_seconds: float,
    phase_seconds: Mapping[str, float], folding_reduction_ratio: float = 0.0,
    idle_power_watts: float | None = None,
    runtime_reduction_ratio: float | None = None,
) -> RunReport:  # fmt: skip
    """Return the report of a finished loop, without the artifact, which does not exist yet."""
    target = config.objective.energy_reduction_percent
    common = RunReport(
        outcome=Outcome.TARGET_MET if result.met else Outcome.TARGET_NOT_MET,
        spec_digest=config.spec_digest,
        dense=result.dense,
        pruned=result.pruned,
        provenance=meter.provenance,
        meter=meter.name,
        device=meter.device,
        idle_power_watts=idle_power_watts,
        meter_check_ratio=result.meter_check.ratio if result.meter_check else None,
        iterations=len(result.iterations),
        rollbacks=sum(not item.accepted for item in result.iterations),
        folding_reduction_ratio=folding_reduction_ratio,
        runtime=config.measurement.runtime,
        runtime_reduction_ratio=runtime_reduction_ratio,
        quantization=None if result.quantization is None else quantization_report(result.quantization),
        run_energy_joules=run_energy_joules,
        duration_seconds=duration_seconds,
        phase_seconds={name: round(seconds, 2) for name, seconds in phase_seconds.items()},
    )
    if result.comparison is None:
        return common.model_copy(
            update={
                "message": f"No step fitted the accuracy budget: {result.reason}. Raise "
                "objective.maxAccuracyDropPoints, or give algorithm.fineTune more epochs"
            }
        )
    metrics = paper_metrics(
        result.dense, result.pruned, dense_provenance=meter.provenance, pruned_provenance=meter.provenance
    )
    reduction, (low, high) = result.comparison.energy_reduction_ratio, result.comparison.energy_reduction_interval
    saved_joules = result.dense.energy_joules - result.pruned.energy_joules
    found = (
        f"{reduction:.1%} less energy per inference ({meter.provenance.value.lower()}, 95 % interval {low:.1%} to "
        f"{high:.1%}) {cost(result.dense, result.pruned)}{_integers(result.quantization)}"
    )
    message = found if result.met else f"The target of {target} % was not reached: {found}; {result.reason}"
    single = result.single
    warnings = warnings_of(meter, circumstances_of(result.comparison), result.meter_check)
    for warning in warnings:
        _log.warning("%s", warning)
    message = "".join((message, *(f". Warning: {warning}" for warning in warnings)))[:_MAX_MESSAGE]
    return common.model_copy(
        update={
            "message": message,
            "energy_reduction_ratio": reduction,
            "energy_reduction_interval": (low, high),
            "single_energy_reduction_ratio": single.energy_reduction_ratio if single else None,
            "single_energy_reduction_interval": single.energy_reduction_interval if single else None,
            "rejected_windows": len(result.comparison.rejected) + (len(single.rejected) if single else 0),
            "power_reduction_ratio": metrics.power_reduction_ratio,
            "latency_speedup_ratio": metrics.latency_speedup_ratio,
            "memory_reduction_ratio": metrics.memory_reduction_ratio,
            "carbon_reduction_ratio": metrics.carbon_reduction_ratio,
            "accuracy_retention_ratio": metrics.accuracy_retention_ratio,
            "layer_prediction_error_ratio": _rounded(result.layer_error_ratio),
            "model_prediction_error_ratio": _rounded(result.model_error_ratio),
            "break_even_inferences": round(run_energy_joules / saved_joules) if saved_joules > 0 else None,
        }
    )


def _rounded(ratio: float | None) -> float | None:
    # The report has 4096 bytes.
    return None if ratio is None else round(ratio, 4)


def quantization_report(found: Quantization) -> QuantizationReport:
    """Return what the stage found, for machines."""
    best = found.best

    def saved(way: Way | None) -> float | None:
        return None if way is None else way.comparison.energy_reduction_ratio

    return QuantizationReport(
        scheme=best.how.scheme if best else None,
        kept=found.kept,
        pruning_reduction_ratio=saved(found.pruning),
        alone_reduction_ratio=saved(found.alone),
        both_reduction_ratio=saved(found.both),
        accuracy_ratio=None if found.both is None else found.both.quality.accuracy_ratio,
        reason=found.reason[:256],
    )


def _integers(found: Quantization | None) -> str:
    if found is None or not found.kept:
        return ""
    before = "" if found.pruning is None else f", {found.pruning.comparison.energy_reduction_ratio:.1%} without"
    assert found.best is not None
    return f", with {found.best.how.scheme.value} linear layers{before}"


def cost(dense: ModelFigures, pruned: ModelFigures) -> str:
    """Return what a pruned model lost or gained, for a person: perplexity of a language model, else accuracy."""
    # "For -0.56 points" would read as a loss.
    if dense.perplexity is not None and pruned.perplexity is not None:
        lost = (pruned.perplexity / dense.perplexity - 1) * 100
        return f"with {-lost:.2f} % less perplexity" if round(lost, 2) < 0 else f"for {abs(lost):.2f} % more perplexity"
    lost = (dense.accuracy_ratio - pruned.accuracy_ratio) * 100
    return f"with {-lost:.2f} points more accuracy" if round(lost, 2) < 0 else f"for {abs(lost):.2f} points of accuracy"
