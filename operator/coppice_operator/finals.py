"""What PruneJobs and ModelRollouts show in /metrics, read from their statuses at each scrape.

A run's pod exports the same names while it lives, with the same labels `prunejob` and `hardware`; Prometheus adds its
namespace. Its series end with it and ours begin when its status is final, so a query that takes `max by (namespace,
prunejob, hardware)` counts nothing twice even where both are there for one scrape. Ours go when the resource goes. At
most eight classes of hardware and six states of targets: no metric has ten series a job, but those with a `model`
label, which have two for each class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from coppice_api.modelrollout import CheckState, TargetState
from coppice_api.prunejob import VariantState
from coppice_operator.cache import place_of
from coppice_operator.plan import JsonObject
from coppice_operator.rollout.claims import FINISHED

_FINISHED = (VariantState.TARGET_MET, VariantState.TARGET_NOT_MET)
_VARIANT = ["namespace", "prunejob", "hardware", "provenance"]
_ROLLOUT = ["namespace", "modelrollout"]
_PERCENTAGES = (
    ("coppice_energy_reduction_ratio", "energyReductionPercent",
     "Energy per inference saved against the dense model, from 0 to 1. Estimated and measured figures do not compare:"
     " keep the provenance label."),
    ("coppice_energy_reduction_lower_ratio", "energyReductionLowPercent",
     "Lower end of the 95 % interval of coppice_energy_reduction_ratio."),
    ("coppice_energy_reduction_upper_ratio", "energyReductionHighPercent",
     "Upper end of the 95 % interval of coppice_energy_reduction_ratio."),
    ("coppice_power_reduction_ratio", "powerReductionPercent",
     "Average power saved while inferring (equation 5). A model that is faster at the same power saves energy, not"
     " power."),
    ("coppice_memory_reduction_ratio", "memoryReductionPercent", "Bytes of parameters saved (equation 7)."),
    ("coppice_carbon_reduction_ratio", "carbonReductionPercent",
     "Carbon per inference saved, at a constant intensity (equation 8)."),
)  # fmt: skip


def of_prunejobs(items: Iterable[JsonObject]) -> Iterator[Metric]:
    """Yield where each PruneJob stands, and the figures of its finished runs."""
    states = GaugeMetricFamily(
        "coppice_prunejob_state", "1 for the state a PruneJob is in: the reason of its Ready condition.",
        labels=["namespace", "prunejob", "state"],
    )  # fmt: skip
    shares = {name: (field, GaugeMetricFamily(name, text, labels=_VARIANT)) for name, field, text in _PERCENTAGES}
    speedup = GaugeMetricFamily(
        "coppice_latency_speedup_ratio", "Dense over pruned latency (equation 6): 2 is twice as fast.", labels=_VARIANT
    )
    accuracy = GaugeMetricFamily(
        "coppice_accuracy_ratio", "Accuracy on the evaluation split, from 0 to 1, of the dense and the pruned model.",
        labels=[*_VARIANT, "model"],
    )  # fmt: skip
    artifacts = GaugeMetricFamily(
        "coppice_artifact_info",
        "1 for the model a finished run made. Its digest is the one that an inference server says it serves, so joining"
        " on it tells what a served model was claimed to save.",
        labels=["namespace", "prunejob", "hardware", "digest"],
    )
    for item in items:
        namespace, name = place_of(item)
        status = item.get("status") or {}
        if status.get("state"):
            states.add_metric([namespace, name, status["state"]], 1)
        for variant in status.get("variants") or ():
            if variant.get("state") not in _FINISHED:
                continue
            labels = [namespace, name, variant["hardware"], variant.get("provenance", "")]
            for field, family in shares.values():
                _add(family, labels, variant.get(field), 100)
            digest = (variant.get("artifact") or {}).get("sha256")
            if digest:
                artifacts.add_metric([namespace, name, variant["hardware"], digest], 1)
            _add(speedup, labels, variant.get("latencySpeedup"), 1)
            _add(accuracy, [*labels, "dense"], variant.get("denseAccuracyPercent"), 100)
            _add(accuracy, [*labels, "pruned"], variant.get("accuracyPercent"), 100)
    yield states
    yield from (family for _, family in shares.values())
    yield from (speedup, accuracy, artifacts)


def of_rollouts(items: Iterable[JsonObject]) -> Iterator[Metric]:
    """Yield where each ModelRollout stands."""
    states = GaugeMetricFamily(
        "coppice_rollout_state", "1 for the state a ModelRollout is in: the reason of its Ready condition.",
        labels=[*_ROLLOUT, "state"],
    )  # fmt: skip
    wave = GaugeMetricFamily(
        "coppice_rollout_wave", "The wave under way, counted from 1; 0 before the first.", labels=_ROLLOUT
    )
    waves = GaugeMetricFamily("coppice_rollout_waves", "How many waves there are.", labels=_ROLLOUT)
    targets = GaugeMetricFamily(
        "coppice_rollout_targets", "Targets by state. RolledBack ones have the model they had before.",
        labels=[*_ROLLOUT, "state"],
    )  # fmt: skip
    checks = GaugeMetricFamily(
        "coppice_rollout_checks",
        "Checks of the current wave by their last verdict. NoData and Error hold the rollout, unless onNoData says"
        " otherwise.",
        labels=[*_ROLLOUT, "state"],
    )
    reachable = GaugeMetricFamily(
        "coppice_rollout_cluster_reachable",
        "1 where a cluster that targets name can be worked with, 0 where its targets are held; gone when the rollout"
        " has ended, since nobody looks any more.",
        labels=[*_ROLLOUT, "cluster"],
    )
    for item in items:
        labels = list(place_of(item))
        status = item.get("status") or {}
        for cluster in (status.get("clusters") or ()) if status.get("state") not in FINISHED else ():
            reachable.add_metric([*labels, cluster["name"]], float(cluster["reachable"]))
        if status.get("state"):
            states.add_metric([*labels, status["state"]], 1)
        wave.add_metric(labels, status.get("wave", 0))
        waves.add_metric(labels, status.get("waves", 0))
        for family, field, enum in ((targets, "targets", TargetState), (checks, "checks", CheckState)):
            found = Counter(entry.get("state") for entry in status.get(field) or ())
            for state in enum:
                family.add_metric([*labels, state.value], found[state.value])
    yield from (states, wave, waves, targets, checks, reachable)


def _add(family: GaugeMetricFamily, labels: list[str], text: str | None, divisor: float) -> None:
    if text is not None:
        family.add_metric(labels, float(text) / divisor)
