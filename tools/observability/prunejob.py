"""The PruneJob dashboard: one run as it goes, and what it came to."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from observability.panels import bars, board, choice, figure, lines, row

_RUN = 'namespace="$namespace", prunejob="$prunejob"'
_BY = "hardware"


def _of(metric: str, labels: str = "", by: str = _BY) -> str:
    """Read a figure of the pod and, after it, of the operator, as one."""
    return f"max by ({by}) ({metric}{{{_RUN}{', ' if labels else ''}{labels}}})"


_PROGRESS = _of("coppice_progress_ratio")
_JOULES = "coppice_inference_energy_joules"
_DENSE, _PRUNED = 'model="dense"', 'model="pruned"'


def prunejob() -> Dashboard:
    """Return the dashboard."""
    return (
        board(
            "coppice-prunejob", "Coppice / PruneJob",
            "One PruneJob: how far it is, what each step cost and gave, where the joules go. Its pod answers while it "
            "lives; the figures of a finished run come from the operator.",
            since="now-3h",
        )
        .with_variable(choice("namespace", "Namespace", "coppice_prunejob_state", several=False))
        .with_variable(choice("prunejob", "PruneJob", 'coppice_prunejob_state{namespace="$namespace"}', several=False))
        .with_row(row("How far"))
        .with_panel(figure(
            "Progress", "Share of the run that is done, by the pod's own reckoning.", "percentunit",
            (_PROGRESS, "{{hardware}}"),
        ))
        .with_panel(figure(
            "Left to go", "At the pace of the last five minutes; a run that meets its target ends before.", "s",
            (f"(1 - {_PROGRESS}) / clamp_min(max by ({_BY}) (deriv(coppice_progress_ratio{{{_RUN}}}[5m])), 1e-6)",
             "{{hardware}}"),
        ))
        .with_panel(figure("Steps", "Pruning steps tried.", "none", (_of("coppice_iteration"), "{{hardware}}")))
        .with_panel(figure(
            "Taken back", "Steps that cost more accuracy than the budget allows; each halves the next one.", "none",
            (_of("coppice_rollbacks_total"), "{{hardware}}"),
        ))
        .with_panel(figure(
            "Energy saved", "Per inference, against the dense model, by the last step that was kept.", "percentunit",
            (_of("coppice_energy_reduction_ratio"), "{{hardware}}"), steps=((None, "text"), (0.000001, "green")),
        ))
        .with_panel(figure(
            "Accuracy lost", "Dense minus pruned, on the evaluation split; below zero it was gained.", "percentunit",
            (f"{_of('coppice_accuracy_ratio', _DENSE)} - {_of('coppice_accuracy_ratio', _PRUNED)}", "{{hardware}}"),
            steps=((None, "green"), (0.005, "orange"), (0.01, "red")),
        ))
        .with_row(row("Accuracy against energy"))
        .with_panel(lines(
            "Accuracy", "Of the dense model, and of the smallest model within the budget so far.", "percentunit",
            (_of("coppice_accuracy_ratio", by="hardware, model"), "{{hardware}} {{model}}"), least=None,
        ))
        .with_panel(lines(
            "Energy per inference", "Both as they would be deployed. The provenance says whether it was measured.",
            "joule", (_of(_JOULES, by="hardware, model, provenance"), "{{hardware}} {{model}} ({{provenance}})"),
        ))
        .with_panel(lines(
            "Energy saved and steps taken back", "Ratio of energy saved; each rollback is a step up of the count.",
            "none", (_of("coppice_energy_reduction_ratio"), "{{hardware}} saved (ratio)"),
            (_of("coppice_rollbacks_total"), "{{hardware}} steps taken back"),
        ))
        .with_row(row("Where the joules go"))
        .with_panel(bars(
            "Layers of the dense model", "Energy of one inference in each of the twelve costliest layers.", "joule",
            (f"topk(12, max by (layer) (last_over_time(coppice_layer_energy_joules{{{_RUN}}}[$__range])))",
             "{{layer}}"),
        ))
        .with_panel(lines(
            "Latency", "Median of a batch.", "s",
            (_of("coppice_latency_seconds", by="hardware, model"), "{{hardware}} {{model}}"),
        ))
        .with_panel(lines(
            "Memory", "Bytes of parameters and buffers.", "bytes",
            (_of("coppice_memory_bytes", by="hardware, model"), "{{hardware}} {{model}}"),
        ))
        .with_row(row("What the run itself costs"))
        .with_panel(lines(
            "Energy used by the run", "Profiling, pruning, fine-tuning and measuring together.", "joule",
            (f"sum by (hardware, provenance) (coppice_energy_joules_total{{{_RUN}}})", "{{hardware}} ({{provenance}})"),
            span=12,
        ))
        .with_panel(lines(
            "Inferences until it is paid back", "The run's own energy over what one inference saves. Falls as more is "
            "saved, grows while the run goes on.", "short",
            (f"sum by (hardware) (coppice_energy_joules_total{{{_RUN}}}) / "
             f"({_of(_JOULES, _DENSE)} - {_of(_JOULES, _PRUNED)} > 0)", "{{hardware}}"), span=12,
        ))
    )  # fmt: skip
