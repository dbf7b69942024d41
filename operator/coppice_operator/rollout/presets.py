"""The queries that come with Coppice: a table of what is measured, by what, and how it becomes PromQL.

Prometheus attaches `namespace` and `pod` to what it scrapes; how the pods of a target are named is its kind's to say.
What the target's pods do not all tell is no number: every available pod has to report each metric of a preset, so that
the half that works cannot speak for the rest.

Names of metrics and labels are those that the projects publish: NVIDIA's DCGM exporter 4.6 (default counters), Kepler
0.10 and later (docs/user/metrics.md), vLLM 0.9 and later (usage/metrics), Triton 2.30 and later (user_guide/metrics),
KServe 0.10 and later (its Python servers) with Knative 1.x (queue-proxy).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from coppice_api.modelrollout import Check, CheckPreset, ClusterLabel, Comparison, TargetKey
from coppice_operator.rollout.kinds import KINDS
from coppice_operator.rollout.promql import Fleet, Metric, filled, quoted

ANY_DIGEST = ".+"
"""What $digest is in a query about what a target served before it was touched."""

OWN_ENERGY = Metric("coppice_served_energy_joules_total", digest=True)
OWN_INFERENCES = Metric("coppice_served_inferences_total", digest=True)
OWN_ACCURACY = Metric("coppice_served_accuracy_ratio", digest=True)
OWN_REQUESTS = Metric("coppice_served_requests_total", digest=True)
OWN_DURATION = Metric("coppice_served_request_duration_seconds_bucket", digest=True)
# The exporter's own pod takes the label `pod` where it is scraped without honorLabels, as its chart does.
DCGM_ENERGY = Metric(
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", (("exported_namespace", "exported_pod"), ("namespace", "pod"))
)
# Other zones are parts of the package. A GPU's joules are a metric of their own, and there is none without a GPU.
KEPLER_CPU = Metric("kepler_pod_cpu_joules_total", (("pod_namespace", "pod_name"),), select='zone=~"package|dram"')
KEPLER_GPU = Metric("kepler_pod_gpu_joules_total", (("pod_namespace", "pod_name"),))
VLLM_REQUESTS = Metric("vllm:request_success_total")
VLLM_TOKENS = Metric("vllm:generation_tokens_total")
VLLM_LATENCY = Metric("vllm:e2e_request_latency_seconds_bucket")
VLLM_FIRST_TOKEN = Metric("vllm:time_to_first_token_seconds_bucket")
VLLM_PER_TOKEN = Metric("vllm:request_time_per_output_token_seconds_bucket")
TRITON_ENERGY = Metric("nv_energy_consumption")
TRITON_INFERENCES = Metric("nv_inference_count")
TRITON_SUCCESS = Metric("nv_inference_request_success")
TRITON_FAILURE = Metric("nv_inference_request_failure")
TRITON_DURATION = Metric("nv_inference_request_duration_us")
TRITON_SUMMARY = Metric("nv_inference_request_summary_us", select='quantile="0.99"')
KSERVE_PREDICTIONS = Metric("request_predict_seconds_count")
KSERVE_DURATION = Metric("request_predict_seconds_bucket")
KNATIVE_REQUESTS = Metric("revision_app_request_count")


@dataclass(frozen=True)
class Preset:
    """One row of the table."""

    source: str
    """Who measures."""
    unit: str
    meaning: str
    metrics: tuple[Metric, ...]
    """What every available pod has to report."""
    expression: Callable[[Fleet], str]

    @property
    def names_digest(self) -> bool:
        """Whether it can tell pods of the new model from those of the old one."""
        return all(metric.digest for metric in self.metrics)


def _dcgm_watts(fleet: Fleet) -> str:
    # The counter is in millijoules.
    return f"{fleet.total(DCGM_ENERGY)} / 1000"


def _kepler_watts(fleet: Fleet) -> str:
    return f"({fleet.total(KEPLER_CPU)} + {fleet.total_or_zero(KEPLER_GPU)})"


def _energy(
    source: str, watts: Callable[[Fleet], str], energy: Metric, count: Metric, unit: str = "J/inference"
) -> Preset:
    return Preset(
        source,
        unit,
        f"Energy per {unit.partition('/')[2]}",
        (energy, count),
        lambda fleet: f"{watts(fleet)} / {fleet.total(count)}",
    )


def _p99(source: str, meaning: str, metric: Metric, unit: str = "s") -> Preset:
    return Preset(
        source, unit, meaning, (metric,), lambda fleet: f"histogram_quantile(0.99, sum by (le) ({fleet.rate(metric)}))"
    )


def _error_rate(source: str, metric: Metric, failed: str, meaning: str) -> Preset:
    # Without traffic this is 0/0, NaN, no data: an idle target has not shown that it works.
    return Preset(
        source,
        "0 to 1",
        meaning,
        (metric,),
        lambda fleet: f"{fleet.total_or_zero(metric, failed)} / {fleet.total(metric)}",
    )


PRESETS: Mapping[CheckPreset, Preset] = {
    CheckPreset.ENERGY_PER_INFERENCE: _energy(
        "example server", lambda fleet: fleet.total(OWN_ENERGY), OWN_ENERGY, OWN_INFERENCES
    ),
    CheckPreset.ACCURACY: Preset(
        "example server",
        "0 to 1",
        "Accuracy on the probe set, of the worst pod",
        (OWN_ACCURACY,),
        # An average would hide a pod that loaded something else.
        lambda fleet: f"min({fleet.now(OWN_ACCURACY)})",
    ),
    CheckPreset.ERROR_RATE: _error_rate(
        "example server", OWN_REQUESTS, 'code=~"5.."', "Share of requests answered with 5xx"
    ),
    CheckPreset.LATENCY_P99: _p99("example server", "99th percentile of a request's duration", OWN_DURATION),
    CheckPreset.DCGM_ENERGY_PER_INFERENCE: _energy(
        "DCGM exporter, example server", _dcgm_watts, DCGM_ENERGY, OWN_INFERENCES
    ),
    CheckPreset.DCGM_ENERGY_PER_TOKEN: _energy(
        "DCGM exporter, vLLM", _dcgm_watts, DCGM_ENERGY, VLLM_TOKENS, "J/generated token"
    ),
    CheckPreset.DCGM_ENERGY_PER_TRITON_INFERENCE: _energy(
        "DCGM exporter, Triton", _dcgm_watts, DCGM_ENERGY, TRITON_INFERENCES
    ),
    CheckPreset.DCGM_ENERGY_PER_KSERVE_PREDICTION: _energy(
        "DCGM exporter, KServe", _dcgm_watts, DCGM_ENERGY, KSERVE_PREDICTIONS, "J/prediction"
    ),
    CheckPreset.KEPLER_ENERGY_PER_INFERENCE: _energy(
        "Kepler, example server", _kepler_watts, KEPLER_CPU, OWN_INFERENCES
    ),
    CheckPreset.KEPLER_ENERGY_PER_TOKEN: _energy(
        "Kepler, vLLM", _kepler_watts, KEPLER_CPU, VLLM_TOKENS, "J/generated token"
    ),
    CheckPreset.KEPLER_ENERGY_PER_TRITON_INFERENCE: _energy(
        "Kepler, Triton", _kepler_watts, KEPLER_CPU, TRITON_INFERENCES
    ),
    CheckPreset.KEPLER_ENERGY_PER_KSERVE_PREDICTION: _energy(
        "Kepler, KServe", _kepler_watts, KEPLER_CPU, KSERVE_PREDICTIONS, "J/prediction"
    ),
    CheckPreset.VLLM_ERROR_RATE: _error_rate(
        "vLLM",
        VLLM_REQUESTS,
        'finished_reason=~"abort|error"',
        "Share of requests that ended in abort or error; clients that go away count too",
    ),
    CheckPreset.VLLM_LATENCY_P99: _p99("vLLM", "99th percentile of a request's duration", VLLM_LATENCY),
    CheckPreset.VLLM_TIME_TO_FIRST_TOKEN_P99: _p99(
        "vLLM", "99th percentile of the time to the first token", VLLM_FIRST_TOKEN
    ),
    CheckPreset.VLLM_TIME_PER_TOKEN_P99: _p99(
        "vLLM", "99th percentile of a request's mean time per token after the first", VLLM_PER_TOKEN, "s/token"
    ),
    CheckPreset.TRITON_ENERGY_PER_INFERENCE: _energy(
        "Triton", lambda fleet: fleet.total(TRITON_ENERGY), TRITON_ENERGY, TRITON_INFERENCES
    ),
    CheckPreset.TRITON_ERROR_RATE: Preset(
        "Triton",
        "0 to 1",
        "Share of requests that failed",
        (TRITON_SUCCESS,),
        lambda fleet: (
            f"{fleet.total_or_zero(TRITON_FAILURE)}"
            f" / ({fleet.total(TRITON_SUCCESS)} + {fleet.total_or_zero(TRITON_FAILURE)})"
        ),
    ),
    CheckPreset.TRITON_LATENCY_MEAN: Preset(
        "Triton",
        "s",
        "Mean of a request's duration",
        (TRITON_DURATION, TRITON_SUCCESS),
        lambda fleet: f"{fleet.total(TRITON_DURATION)} / {fleet.total(TRITON_SUCCESS)} / 1000000",
    ),
    CheckPreset.TRITON_LATENCY_P99: Preset(
        "Triton (`--metrics-config summary_latencies=true`)",
        "s",
        "99th percentile of a request's duration, of the worst pod",
        (TRITON_SUMMARY,),
        # Quantiles of several pods do not add up.
        lambda fleet: f"max({fleet.now(TRITON_SUMMARY)}) / 1000000",
    ),
    CheckPreset.KSERVE_ERROR_RATE: _error_rate(
        "KServe (Knative's queue-proxy)",
        KNATIVE_REQUESTS,
        'response_code_class="5xx"',
        "Share of requests answered with 5xx",
    ),
    CheckPreset.KSERVE_LATENCY_P99: _p99("KServe", "99th percentile of the predict step", KSERVE_DURATION),
}


def promql(
    check: Check, *, namespace: str, targets: Sequence[TargetKey], available: int, digest: str, window_seconds: int,
    label: ClusterLabel | None = None,
) -> str:  # fmt: skip
    """Return the query of a check for one target, or for several as if they were one.

    Args:
        check: A preset or a query with $namespace, $target, $cluster, $digest and $window.
        namespace: The target's namespace.
        targets: Several only with compare Canary.
        available: How many pods they have that are available.
        digest: sha256 of the new model's manifest, or ANY_DIGEST.
        window_seconds: How far back to look.
        label: How series of several clusters are told apart; the targets are all of one.
    """
    pattern = _either([target.name for target in targets])
    window, cluster = f"{window_seconds}s", targets[0].cluster or (label.own if label else "")
    if check.query is not None:
        target = pattern if check.compare is Comparison.CANARY else targets[0].name
        return filled(check.query, namespace=namespace, target=target, cluster=cluster, digest=digest, window=window)
    preset = PRESETS[CheckPreset(check.preset or "")]
    kinds = list(dict.fromkeys(target.kind for target in targets))
    pods = [KINDS[kind].pods(_either([target.name for target in targets if target.kind is kind])) for kind in kinds]
    fleet = Fleet(namespace, "|".join(pods), digest, available, window,
                  f'{label.name}="{quoted(cluster)}"' if label else "")  # fmt: skip
    reporting = [f"and on() ({fleet.reporting(metric)})" for metric in preset.metrics]
    return " ".join([f"({preset.expression(fleet)})", *reporting])


def _either(names: Sequence[str]) -> str:
    """Return the regular expression of any of these names."""
    # The dot is the only character of a Kubernetes name that a regular expression reads otherwise.
    pattern = "|".join(name.replace(".", r"\.") for name in names)
    return f"({pattern})" if len(names) > 1 else pattern


def settling_seconds(check: Check, window_seconds: int) -> int:
    """Return how long a query's window still holds pods of the old model that it cannot tell from new ones."""
    if check.preset is None or PRESETS[check.preset].names_digest:
        return 0
    return window_seconds
