"""The Fleet dashboard: what inference costs now, what pruned models save of it, and what is being rolled out."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from observability.panels import bars, board, choice, figure, lines, number, row

_SERVED = 'namespace=~"$namespace"'
_WATTS = f"sum by (namespace, digest) (rate(coppice_served_energy_joules_total{{{_SERVED}}}[$__rate_interval]))"
_INFERENCES = f"sum by (namespace, digest) (rate(coppice_served_inferences_total{{{_SERVED}}}[$__rate_interval]))"
_MADE_HERE = f"max by (namespace, digest) (coppice_artifact_info{{{_SERVED}}})"
_RATIO = f"coppice_energy_reduction_ratio{{{_SERVED}}}"
# What a model draws is (1 - r) of what the dense one would: r / (1 - r) times that is saved.
_SAVED_WATTS = f"""
sum(
  {_WATTS} * on (namespace, digest) group_left ()
  max by (namespace, digest) (
    coppice_artifact_info{{{_SERVED}}} * on (namespace, prunejob, hardware) group_left ()
    max by (namespace, prunejob, hardware) ({_RATIO} / (1 - {_RATIO}))
  )
) or vector(0)"""
_MODEL = "{{namespace}} {{model}}"
_JOULES_PER_KILOWATT_HOUR, _SECONDS_PER_DAY = "3.6e6", "86400"


def _short(query: str) -> str:
    """Name a model by the first characters of its digest, as `coppice` itself does."""
    return f'label_replace({query}, "model", "$1", "digest", "(.{{0,12}}).*")'


def fleet() -> Dashboard:
    """Return the dashboard."""
    return (
        board(
            "coppice-fleet", "Coppice / Fleet",
            "Energy of inference over all namespaces, what pruned models save of it, and the rollouts under way. "
            "Where no energy counter was there, joules are estimated: the provenance label says so.",
            since="now-6h",
        )
        .with_variable(choice("namespace", "Namespace", "coppice_served_inferences_total", several=True))
        .with_variable(number("price", "Price per kWh", "0.25", "In any currency; the money panel is in it too."))
        .with_variable(number("intensity", "g CO2e per kWh", "350", "Of your grid: electricitymaps.com and others."))
        .with_row(row("Now"))
        .with_panel(figure(
            "Power of inference", "Joules a second that all models use together, as their servers' meters count them.",
            "watt", (f"sum({_WATTS})", "watts"),
        ))
        .with_panel(figure(
            "Power saved", "What dense models would draw beyond this for the same requests, by the reduction that each "
            "model's run measured or estimated. It is a claim, not a measurement: compare J per inference below.",
            "watt", (_SAVED_WATTS, "watts"), steps=((None, "text"), (0.000001, "green")),
        ))
        .with_panel(figure(
            "Money saved a day", "Power saved, for a day, at $price per kWh.", "none",
            (f"({_SAVED_WATTS}) * {_SECONDS_PER_DAY} / {_JOULES_PER_KILOWATT_HOUR} * $price", "a day"),
        ))
        .with_panel(figure(
            "Carbon saved a day", "Power saved, for a day, at $intensity grams per kWh.", "massg",
            (f"({_SAVED_WATTS}) * {_SECONDS_PER_DAY} / {_JOULES_PER_KILOWATT_HOUR} * $intensity", "a day"),
        ))
        .with_panel(figure(
            "Served by pruned models", "Share of inferences that a model made by Coppice answers.", "percentunit",
            (f"(sum({_INFERENCES} * on (namespace, digest) group_left () {_MADE_HERE}) or vector(0))"
             f" / sum({_INFERENCES})", "share"),
        ))
        .with_panel(figure(
            "Requests that fail", "Share of inference requests answered with 5xx.", "percentunit",
            (f'sum(rate(coppice_served_requests_total{{{_SERVED},code=~"5.."}}[$__rate_interval]))'
             f" / sum(rate(coppice_served_requests_total{{{_SERVED}}}[$__rate_interval]))", "share"),
            steps=((None, "green"), (0.001, "orange"), (0.01, "red")),
        ))
        .with_row(row("By model"))
        .with_panel(lines(
            "Energy per inference", "The figure a rollout is judged by. A new digest appears when a wave begins; it "
            "should lie below the one it replaces.", "joule", (_short(f"{_WATTS} / {_INFERENCES}"), _MODEL),
        ))
        .with_panel(lines(
            "Power", "Joules a second. It follows the traffic: a cooler model under more load may draw more.", "watt",
            (_short(_WATTS), _MODEL), stacked=True,
        ))
        .with_panel(lines(
            "Accuracy on the probe set", "The worst pod of each model, on labelled samples that every server asks "
            "itself.", "percentunit",
            (_short(f"min by (namespace, digest) (coppice_served_accuracy_ratio{{{_SERVED}}})"), _MODEL), least=None,
        ))
        .with_panel(lines(
            "Inferences a second", "Samples computed, by model.", "ops", (_short(_INFERENCES), _MODEL), stacked=True
        ))
        .with_panel(lines(
            "Latency, 99th percentile", "From a whole request to its answer, queueing included.", "s",
            (_short("histogram_quantile(0.99, sum by (namespace, digest, le) (rate("
                    f"coppice_served_request_duration_seconds_bucket{{{_SERVED}}}[$__rate_interval])))"), _MODEL),
        ))
        .with_panel(bars(
            "Claimed reduction", "Energy per inference saved against the dense model, with the ends of its 95 % "
            "interval. Estimated and measured figures do not compare.", "percentunit",
            (f"max by (namespace, prunejob, hardware, provenance) (coppice_energy_reduction_ratio{{{_SERVED}}})",
             "{{prunejob}} {{hardware}} ({{provenance}})"),
            (f"max by (namespace, prunejob, hardware) (coppice_energy_reduction_lower_ratio{{{_SERVED}}})",
             "{{prunejob}} {{hardware}}, lower end"),
            (f"max by (namespace, prunejob, hardware) (coppice_energy_reduction_upper_ratio{{{_SERVED}}})",
             "{{prunejob}} {{hardware}}, upper end"),
        ))
        .with_row(row("Rollouts and runs"))
        .with_panel(lines(
            "Targets by state", "Updating and RollingBack are in transition; RolledBack serve what they had before.",
            "short", (f"sum by (state) (coppice_rollout_targets{{{_SERVED}}})", "{{state}}"), stacked=True, span=6,
        ))
        .with_panel(lines(
            "Checks by verdict", "Of the waves under way. NoData and Error hold it unless onNoData says otherwise.",
            "short", (f"sum by (state) (coppice_rollout_checks{{{_SERVED}}})", "{{state}}"), stacked=True, span=6,
        ))
        .with_panel(bars(
            "Rollouts", "Wave of each rollout, and of how many.", "none",
            (f"max by (namespace, modelrollout) (coppice_rollout_wave{{{_SERVED}}})", "{{modelrollout}}: wave"),
            (f"max by (namespace, modelrollout) (coppice_rollout_waves{{{_SERVED}}})", "{{modelrollout}}: of"), span=6,
        ))
        .with_panel(bars(
            "PruneJobs by state", "Reasons of their Ready conditions: docs/reference/reasons.md.", "none",
            (f"count by (state) (coppice_prunejob_state{{{_SERVED}}} == 1)", "{{state}}"), span=6,
        ))
    )  # fmt: skip
