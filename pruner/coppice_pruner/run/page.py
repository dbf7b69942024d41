"""What a run reports to people: report.html."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata

from coppice_api.base import Provenance
from coppice_api.prunejob import RuntimeKind
from coppice_api.run import ModelFigures, RunConfig, RunReport
from coppice_pruner import report_page
from coppice_pruner.measurement import Comparison, average
from coppice_pruner.report_page import (
    Carbon,
    Fact,
    GroupWidth,
    Interval,
    LayerEnergy,
    ModelRow,
    Pair,
    Prediction,
    ReportPage,
    RunCost,
    Saving,
    Step,
)
from coppice_pruner.run.device_state import conditions_of
from coppice_pruner.run.journal import Iteration
from coppice_pruner.run.loop import Baseline, LoopResult
from coppice_pruner.run.quantization_page import quantization_part

RUNTIMES = {
    RuntimeKind.EAGER: "PyTorch",
    RuntimeKind.COMPILED: "AOTInductor",
    RuntimeKind.ONNX_RUNTIME: "ONNX Runtime",
}
"""Names for a person."""


def html_of(
    report: RunReport, config: RunConfig, result: LoopResult, baseline: Baseline, parent_sha256: str | None
) -> str:
    """Return the report of a run as one self-contained page.

    Args:
        report: For machines.
        config: The run contract.
        result: How the loop ended.
        baseline: The dense model.
        parent_sha256: Digest of the dense model, if it has one.
    """
    return report_page.render(page_of(report, config, result, baseline, parent_sha256))


def page_of(
    report: RunReport, config: RunConfig, result: LoopResult, baseline: Baseline, parent_sha256: str | None
) -> ReportPage:
    """Return what the page shows of a run; see `html_of`."""
    iterations = result.iterations
    widths = next((item.widths for item in reversed(iterations) if item.accepted), {})
    after = baseline.cost_model.layer_energies(widths)
    interval, intensity = report.energy_reduction_interval, config.measurement.carbon_intensity_grams_per_kilowatt_hour
    return ReportPage(
        config=config,
        outcome=report.outcome,
        message=report.message,
        provenance=report.provenance or Provenance.ESTIMATED,
        meter=report.meter or "",
        device=report.device or "",
        dense=_row(report.dense, result.single, 0),
        pruned=_row(report.pruned, result.single, 1),
        energy_reduction_ratio=report.energy_reduction_ratio,
        energy_reduction_interval=Interval(*interval) if interval else None,
        single_energy_reduction_ratio=report.single_energy_reduction_ratio,
        single_energy_reduction_interval=Interval(*report.single_energy_reduction_interval)
        if report.single_energy_reduction_interval else None,
        steps=tuple(
            Step(
                item.number, item.accepted, item.predicted_reduction_ratio, item.energy_reduction_ratio,
                accuracy_ratio=item.accuracy_ratio, reason=item.reason, fine_tunings=item.fine_tunings,
                again=not item.step,
            )
            for item in iterations
        ),
        layers=tuple(
            LayerEnergy(name, joules, pruned_joules=after.get(name, 0.0))
            for name, joules in baseline.cost_model.layer_energies({}).items()
        ),
        widths=tuple(
            GroupWidth(name, dense, widths[name])
            for name, dense in baseline.cost_model.built_widths.items()
            if name in widths
        ),
        pairs=tuple(
            Pair(dense.energy_joules, pruned.energy_joules)
            for dense, pruned in zip(result.comparison.dense, result.comparison.pruned, strict=True)
        ) if result.comparison else (),
        savings=_savings(config, baseline),
        quantization=None if result.quantization is None else quantization_part(
            result.quantization, perplexity=report.dense is not None and report.dense.perplexity is not None
        ),
        predictions=_predictions(report, iterations),
        conditions=conditions_of(report, result),
        layer_prediction_error_ratio=report.layer_prediction_error_ratio,
        carbon=None if intensity is None else Carbon(intensity, source="spec.measurement"),
        run_cost=RunCost(
            report.run_energy_joules, report.duration_seconds, report.break_even_inferences, report.phase_seconds
        ),
        origin=(*((Fact("Dense model", parent_sha256, exact=True),) if parent_sha256 else ()), *_versions()),
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )  # fmt: skip


def _row(figures: ModelFigures | None, single: Comparison | None, place: int) -> ModelRow | None:
    """Return a model's row; `place` says which side of the comparison at batch 1 it is."""
    if figures is None or single is None:
        return ModelRow.of(figures) if figures else None
    reading = average((single.dense, single.pruned)[place])
    return ModelRow.of(
        figures, single_latency_seconds=reading.latency_seconds, single_energy_joules=reading.energy_joules
    )


def _savings(config: RunConfig, baseline: Baseline) -> tuple[Saving, ...]:
    savings = []
    if baseline.folding_reduction_ratio:
        savings.append(
            Saving(
                "Folding norms into layers", baseline.folding_reduction_ratio, None,
                "the dense model as it is, in PyTorch; in the dense and the pruned model alike",
            )
        )  # fmt: skip
    if baseline.runtime_reduction_ratio is not None:
        savings.append(
            Saving(
                f"{RUNTIMES[config.measurement.runtime]} in place of PyTorch", baseline.runtime_reduction_ratio, None,
                "the folded dense model in PyTorch; both models run in it where they are compared",
            )
        )  # fmt: skip
    return tuple(savings)


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
