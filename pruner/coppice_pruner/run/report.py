"""What a run reports: RunReport for machines, report.html for people."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from string import Template

from coppice_api.base import Provenance
from coppice_api.run import ModelFigures, Outcome, RunConfig, RunReport
from coppice_pruner.measurement import paper_metrics
from coppice_pruner.meters import Meter
from coppice_pruner.run.journal import Iteration
from coppice_pruner.run.loop import LoopResult


def report_of(
    result: LoopResult, config: RunConfig, meter: Meter, *, run_energy_joules: float, duration_seconds: float,
    phase_seconds: Mapping[str, float], folding_reduction_ratio: float = 0.0,
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
        folding_reduction_ratio=folding_reduction_ratio,
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
        f"{high:.1%}) for {lost(result.dense, result.pruned)}"
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


def lost(dense: ModelFigures, pruned: ModelFigures) -> str:
    """Return what a pruned model lost, for a person: perplexity of a language model, else points of accuracy."""
    if dense.perplexity is not None and pruned.perplexity is not None:
        return f"{(pruned.perplexity / dense.perplexity - 1) * 100:.2f} % more perplexity"
    return f"{(dense.accuracy_ratio - pruned.accuracy_ratio) * 100:.2f} points of accuracy"


_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b2a21}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{border-bottom:1px solid #cdd8d0;padding:.35rem .6rem;text-align:right}
th:first-child,td:first-child{text-align:left}
.back{color:#8a2f1d}.note{color:#4d6155}
</style></head><body>
<h1>$title</h1>
<p><strong>$outcome.</strong> $message</p>
<p class="note">Energy is <strong>$provenance</strong> by meter $meter on $device.</p>
<table><thead><tr><th></th><th>dense</th><th>pruned</th></tr></thead><tbody>$figures</tbody></table>
<p class="note">Both are measured as they would be deployed, with norms folded into layers. Folding alone saves
$folding of the dense model's energy ($provenance); that is in both and in no claim.</p>
<h2>Steps</h2>
<table><thead><tr><th>step</th><th>result</th><th>accuracy</th><th>energy saved, predicted</th>
<th>energy saved, $provenance</th><th>widths</th></tr></thead><tbody>$steps</tbody></table>
<h2>Where the dense model's energy goes</h2>
<table><thead><tr><th>layer</th><th>J per inference ($provenance)</th><th>share</th></tr></thead>
<tbody>$layers</tbody></table>
<h2>The run itself</h2>
<p>It used $run_joules ($provenance) in $seconds s$break_even.</p>
</body></html>
""")


def html_of(
    report: RunReport, config: RunConfig, iterations: Sequence[Iteration], layer_energies: Mapping[str, float]
) -> str:
    """Return the report as one self-contained page. Everything that came from outside is escaped."""
    provenance = (report.provenance or Provenance.ESTIMATED).value.lower()
    break_even = (
        f"; {report.break_even_inferences:,} inferences of the pruned model pay that back"
        if report.break_even_inferences
        else ""
    )
    return _PAGE.substitute(
        title=html.escape(f"{config.namespace}/{config.name} on {config.hardware}"),
        outcome="Target met" if report.outcome is Outcome.TARGET_MET else "Target not met",
        message=html.escape(report.message),
        provenance=provenance,
        meter=html.escape(report.meter or ""),
        device=html.escape(report.device or ""),
        figures=_figure_rows(report.dense, report.pruned, provenance) if report.dense and report.pruned else "",
        folding=f"{report.folding_reduction_ratio or 0:.1%}",
        steps="".join(_step_row(item) for item in iterations),
        layers=_layer_rows(layer_energies),
        run_joules=f"{report.run_energy_joules or 0:.1f} J",
        seconds=f"{report.duration_seconds or 0:.0f}",
        break_even=break_even,
    )


def _figure_rows(dense: ModelFigures, pruned: ModelFigures, provenance: str) -> str:
    rows = [
        ("accuracy", f"{dense.accuracy_ratio:.2%}", f"{pruned.accuracy_ratio:.2%}"),
        *(
            [("perplexity", f"{dense.perplexity:.4g}", f"{pruned.perplexity:.4g}")]
            if dense.perplexity is not None and pruned.perplexity is not None
            else []
        ),
        (f"J per inference ({provenance})", f"{dense.energy_joules:.3g}", f"{pruned.energy_joules:.3g}"),
        (f"average power, W ({provenance})", f"{dense.power_watts:.3g}", f"{pruned.power_watts:.3g}"),
        ("median latency of a batch, ms", f"{dense.latency_seconds * 1e3:.3g}", f"{pruned.latency_seconds * 1e3:.3g}"),
        ("memory, bytes", f"{dense.memory_bytes:,}", f"{pruned.memory_bytes:,}"),
        ("parameters", f"{dense.parameters:,}", f"{pruned.parameters:,}"),
    ]
    return "".join(f"<tr><td>{name}</td><td>{one}</td><td>{other}</td></tr>" for name, one, other in rows)


def _step_row(item: Iteration) -> str:
    result = "accepted" if item.accepted else f'<span class="back">taken back: {html.escape(item.reason)}</span>'
    cells = [
        str(item.number),
        result,
        "" if item.accuracy_ratio is None else f"{item.accuracy_ratio:.2%}",
        f"{item.predicted_reduction_ratio:.1%}",
        "" if item.energy_reduction_ratio is None else f"{item.energy_reduction_ratio:.1%}",
        html.escape(", ".join(str(width) for width in item.widths.values())),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _layer_rows(layer_energies: Mapping[str, float]) -> str:
    total = sum(layer_energies.values()) or 1.0
    return "".join(
        f"<tr><td>{html.escape(name)}</td><td>{joules:.3g}</td><td>{joules / total:.1%}</td></tr>"
        for name, joules in layer_energies.items()
    )
