"""The Operator dashboard: whether the operator itself is well."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from observability.panels import board, choice, figure, lines, row

_WHERE = 'job=~"$job"'


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{_WHERE}}}[$__rate_interval]))"


def controller() -> Dashboard:
    """Return the dashboard."""
    return (
        board(
            "coppice-operator", "Coppice / Operator",
            "Passes, queue, requests to the API server, watches and leader. A settled fleet shows no writes at all.",
            since="now-3h",
        )
        .with_variable(choice("job", "Scrape job", "coppice_operator_leader", several=True))
        .with_row(row("Is it well?"))
        .with_panel(figure(
            "Leaders", "Replicas that work: 1. For a moment 0 when one takes over from another.", "none",
            (f"sum(coppice_operator_leader{{{_WHERE}}})", "leaders"),
            steps=((None, "red"), (1, "green"), (2, "red")),
        ))
        .with_panel(figure(
            "Replicas", "That answer a scrape.", "none", (f"count(coppice_operator_leader{{{_WHERE}}})", "replicas")
        ))
        .with_panel(figure(
            "Caches", "1 once everything watched was listed; nothing is decided before.", "none",
            (f"min(coppice_operator_caches_synced{{{_WHERE}}})", "synced"), steps=((None, "red"), (1, "green")),
        ))
        .with_panel(figure(
            "Oldest in the queue", "How long the first object has been due: the delay a user sees.", "s",
            (f"max(coppice_operator_queue_oldest_seconds{{{_WHERE}}})", "oldest"),
            steps=((None, "green"), (10, "orange"), (60, "red")),
        ))
        .with_panel(figure(
            "Defects", "Passes that ended in a bug since the range began; the log has their tracebacks.", "none",
            (f'sum(increase(coppice_operator_reconcile_duration_seconds_count{{{_WHERE},result="defect"}}[$__range]))'
             " or vector(0)", "defects"), steps=((None, "green"), (1, "red")),
        ))
        .with_panel(figure(
            "Memory", "Resident size of the largest replica.", "bytes",
            (f"max(process_resident_memory_bytes{{{_WHERE}}} and on (job, instance) coppice_operator_leader)", "RSS"),
        ))
        .with_row(row("Work"))
        .with_panel(lines(
            "Passes a second", "By how they went. stale ones are done again at once; refused ones wait.", "ops",
            (_rate("coppice_operator_reconcile_duration_seconds_count", "kind, result"), "{{kind}} {{result}}"),
        ))
        .with_panel(lines(
            "Duration of a pass, 99th percentile", "By kind.", "s",
            ("histogram_quantile(0.99, "
             f"{_rate('coppice_operator_reconcile_duration_seconds_bucket', 'kind, le')})", "{{kind}}"),
        ))
        .with_panel(lines(
            "Queue", "Objects due for a pass. It falls back to 0 between bursts.", "short",
            (f"sum(coppice_operator_queue_depth{{{_WHERE}}})", "due"),
        ))
        .with_panel(lines(
            "Objects in memory", "By kind.", "short",
            (f"max by (kind) (coppice_operator_cached_objects{{{_WHERE}}})", "{{kind}}"),
        ))
        .with_panel(lines(
            "Came to stand still", "Objects with a new Stalled condition, by its reason.", "short",
            (f"sum by (kind, reason) (coppice_operator_failures_total{{{_WHERE}}})", "{{kind}} {{reason}}"),
        ))
        .with_panel(lines(
            "Lateness of the event loop", "Share of time in which nothing else got a turn; above 10 % the process has "
            "too little CPU.", "percentunit",
            (f"sum by (instance) (rate(coppice_operator_loop_late_seconds_total{{{_WHERE}}}[$__rate_interval]))",
             "{{instance}}"),
        ))
        .with_row(row("API server"))
        .with_panel(lines(
            "Requests a second", "By verb and code; 0 is no answer, 409 a conflict that is tried again.", "reqps",
            (_rate("coppice_operator_api_requests_total", "verb, code"), "{{verb}} {{code}}"),
        ))
        .with_panel(lines(
            "Last event of each watch", "High is normal where nothing happens, and a lost watch where something does.",
            "s", (f"min by (kind) (coppice_operator_last_event_age_seconds{{{_WHERE}}})", "{{kind}}"),
        ))
        .with_panel(lines(
            "Missed by a watch", "Changes that only a fresh list showed. A few after an outage are ordinary.", "short",
            (f"sum by (kind) (coppice_operator_watch_missed_total{{{_WHERE}}})", "{{kind}}"),
        ))
    )  # fmt: skip
