"""What a run reports: RunReport for machines, report.html for people."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata

from coppice_api.base import Provenance
from coppice_api.run import Outcome, RunConfig, RunReport
from coppice_pruner import report_page
from coppice_pruner.measurement import paper_metrics
from coppice_pruner.meters import Meter
from coppice_pruner.report_page import (
    Carbon,
    Fact,
    Interval,
    LayerEnergy,
    ModelRow,
    Prediction,
    ReportPage,
    RunCost,
    Step,
)
from coppice_pruner.run.journal import Iteration
from coppice_pruner.run.loop import LoopResult


def report_of(
    result: LoopResult, config: RunConfig, meter: Meter, *, run_energy_joules: float, duration_seconds: float,
    phase_seconds: Mapping[str, float],
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
        iterations=len(result.iterations),
        rollbacks=sum(not item.accepted for item in result.iterations),
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
    lost_points = (result.dense.accuracy_ratio - result.pruned.accuracy_ratio) * 100
    saved_joules = result.dense.energy_joules - result.pruned.energy_joules
    found = (
        f"{reduction:.1%} less energy per inference ({meter.provenance.value.lower()}, 95 % interval {low:.1%} to "
        f"{high:.1%}) for {lost_points:.2f} points of accuracy"
    )
    message = found if result.met else f"The target of {target} % was not reached: {found}; {result.reason}"
    return common.model_copy(
        update={
            "message": message,
            "energy_reduction_ratio": reduction,
            "energy_reduction_interval": (low, high),
            "power_reduction_ratio": metrics.power_reduction_ratio,
            "latency_speedup_ratio": metrics.latency_speedup_ratio,
            "memory_reduction_ratio": metrics.memory_reduction_ratio,
            "carbon_reduction_ratio": metrics.carbon_reduction_ratio,
            "accuracy_retention_ratio": metrics.accuracy_retention_ratio,
            "break_even_inferences": round(run_energy_joules / saved_joules) if saved_joules > 0 else None,
        }
    )


def html_of(
    report: RunReport, config: RunConfig, iterations: Sequence[Iteration], layer_energies: Mapping[str, float]
) -> str:
    """Return the report as one self-contained page."""
    return report_page.render(page_of(report, config, iterations, layer_energies))


def page_of(
    report: RunReport, config: RunConfig, iterations: Sequence[Iteration], layer_energies: Mapping[str, float]
) -> ReportPage:
    """Return what the page shows of a run; what the report does not hold is absent."""
    interval, intensity = report.energy_reduction_interval, config.measurement.carbon_intensity_grams_per_kilowatt_hour
    return ReportPage(
        config=config,
        outcome=report.outcome,
        message=report.message,
        provenance=report.provenance or Provenance.ESTIMATED,
        meter=report.meter or "",
        device=report.device or "",
        dense=ModelRow.of(report.dense) if report.dense else None,
        pruned=ModelRow.of(report.pruned) if report.pruned else None,
        energy_reduction_ratio=report.energy_reduction_ratio,
        energy_reduction_interval=Interval(*interval) if interval else None,
        steps=tuple(
            Step(
                item.number, item.accepted, item.predicted_reduction_ratio, item.energy_reduction_ratio,
                accuracy_ratio=item.accuracy_ratio, reason=item.reason,
            )
            for item in iterations
        ),
        layers=tuple(LayerEnergy(name, joules) for name, joules in layer_energies.items()),
        predictions=_predictions(report, iterations),
        carbon=None if intensity is None else Carbon(intensity, source="spec.measurement"),
        run_cost=RunCost(
            report.run_energy_joules, report.duration_seconds, report.break_even_inferences, report.phase_seconds
        ),
        origin=_versions(),
    )  # fmt: skip


def _predictions(report: RunReport, iterations: Sequence[Iteration]) -> tuple[Prediction, ...]:
    if report.dense is None:
        return ()
    dense_joules = report.dense.energy_joules
    return tuple(
        Prediction(
            f"Step {item.number}",
            dense_joules * (1.0 - item.predicted_reduction_ratio),
            dense_joules * (1.0 - item.energy_reduction_ratio),
        )
        for item in iterations
        if item.energy_reduction_ratio is not None
    )


def _versions() -> tuple[Fact, ...]:
    packages = (("Coppice", "coppice"), ("PyTorch", "torch"), ("Torch-Pruning", "torch-pruning"))
    return (
        *(Fact(name, metadata.version(package)) for name, package in packages),
        Fact("Python", platform.python_version()),
    )
