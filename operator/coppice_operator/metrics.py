"""The operator's own metrics, and the finals of finished runs, which outlive their pods."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from coppice_operator.cache import Cache, place_of
from coppice_operator.queue import WorkQueue

_FINALS = (
    ("coppice_energy_reduction_ratio", "Energy per inference saved against the dense model.", "energyReductionPercent"),
    ("coppice_power_reduction_ratio", "Average power saved (equation 5).", "powerReductionPercent"),
    ("coppice_memory_reduction_ratio", "Parameter bytes saved (equation 7).", "memoryReductionPercent"),
    ("coppice_accuracy_ratio", "Accuracy on the evaluation split.", "accuracyPercent"),
)
_LABELS = ["namespace", "prunejob", "hardware", "provenance"]


class OperatorMetrics:
    """Everything /metrics shows.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self.reconcile_seconds = Histogram(
            "coppice_operator_reconcile_duration_seconds", "Duration of a pass.", ["kind", "result"],
            registry=self.registry,
        )  # fmt: skip
        self.api_requests = Counter(
            "coppice_operator_api_requests", "Requests to the API server; code 0 is no answer.", ["verb", "code"],
            registry=self.registry,
        )  # fmt: skip
        self._clock = clock
        self._last_event: dict[str, float] = {}

    def saw_event(self, kind: str) -> None:
        """Note that a watch gave something."""
        self._last_event[kind] = self._clock()

    def watch(self, cache: Cache, queue: WorkQueue) -> None:
        """Show what the cache and the queue hold at each scrape."""
        self.registry.register(_Collector(self, cache, queue))

    def event_ages(self) -> dict[str, float]:
        """Return seconds since the last event of each watch."""
        now = self._clock()
        return {kind: now - moment for kind, moment in self._last_event.items()}


class _Collector:
    def __init__(self, metrics: OperatorMetrics, cache: Cache, queue: WorkQueue) -> None:
        self._metrics, self._cache, self._queue = metrics, cache, queue

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("coppice_operator_queue_depth", "Keys that are due.", value=len(self._queue))
        yield GaugeMetricFamily(
            "coppice_operator_queue_oldest_seconds", "How long the first of them has been due.",
            value=self._queue.oldest_seconds(),
        )  # fmt: skip
        ages = GaugeMetricFamily(
            "coppice_operator_last_event_age_seconds", "Seconds since a watch gave something.", labels=["kind"]
        )
        for kind, age in self._metrics.event_ages().items():
            ages.add_metric([kind], age)
        yield ages
        yield from self._finals()

    def _finals(self) -> Iterator[Metric]:
        families = {field: GaugeMetricFamily(name, text, labels=_LABELS) for name, text, field in _FINALS}
        speedup = GaugeMetricFamily("coppice_latency_speedup_ratio", "Dense over pruned latency.", labels=_LABELS)
        for item in self._cache.all("PruneJob"):
            namespace, name = place_of(item)
            for variant in (item.get("status") or {}).get("variants") or ():
                if variant.get("state") not in ("TargetMet", "TargetNotMet"):
                    continue
                labels = [namespace, name, variant["hardware"], variant.get("provenance", "")]
                for field, family in families.items():
                    if field in variant:
                        family.add_metric(labels, float(variant[field]) / 100)
                if "latencySpeedup" in variant:
                    speedup.add_metric(labels, float(variant["latencySpeedup"]))
        yield from families.values()
        yield speedup
