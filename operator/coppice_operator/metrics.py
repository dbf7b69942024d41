"""The operator's own metrics; `finals.py` has those of the objects it looks after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coppice_operator import finals
from coppice_operator.cache import Cache
from coppice_operator.health import Health
from coppice_operator.plan import JsonObject, Plan
from coppice_operator.queue import WorkQueue

KINDS = ("PruneJob", "ModelRollout", "Job", "Pod", "Deployment", "StatefulSet", "DaemonSet", "InferenceService")


class OperatorMetrics:
    """Everything /metrics shows.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconcile_seconds = Histogram(
            "coppice_operator_reconcile_duration_seconds",
            "Duration of one pass over one object, by how it went: ok; stale (what it looked at had changed: done again"
            " at once); refused (the API server refused a write or did not answer); fenced (not the leader any more);"
            " defect (a bug: the log has its traceback).",
            ["kind", "result"], registry=self.registry,
        )  # fmt: skip
        self.api_requests = Counter(
            "coppice_operator_api_requests",
            "Requests to the API server, renewals of the Lease among them, Kopf's watches not. Code 0 is no answer. A"
            " settled fleet writes nothing but the Lease.",
            ["verb", "code"], registry=self.registry,
        )  # fmt: skip
        self._failures = Counter(
            "coppice_operator_failures",
            "Times that an object came to stand still, by the reason of its Stalled condition. The object's own Events"
            " say more; coppice_prunejob_state and coppice_rollout_state name it.",
            ["kind", "reason"], registry=self.registry,
        )  # fmt: skip
        self._missed = Counter(
            "coppice_operator_watch_missed",
            "Changes that only a fresh list showed, because a watch had lost them. A few after an outage are ordinary.",
            ["kind"], registry=self.registry,
        )  # fmt: skip
        for kind in KINDS:
            # `increase` sees the first one only if it saw the zero before.
            self._missed.labels(kind)
        self._clock = clock
        self._last_event: dict[str, float] = {}
        self._cache, self._queue, self._health = Cache(), WorkQueue(clock), Health(clock)

    def watch(self, cache: Cache, queue: WorkQueue, health: Health) -> None:
        """Show what these hold at each scrape."""
        self._cache, self._queue, self._health = cache, queue, health

    def saw_event(self, kind: str) -> None:
        """Note that a watch gave something."""
        self._last_event[kind] = self._clock()

    def missed(self, kind: str, count: int) -> None:
        """Note that a list showed what a watch had not."""
        self._missed.labels(kind).inc(count)

    def carried_out(self, kind: str, item: JsonObject, plan: Plan) -> None:
        """Count an object that a plan made from `item` has brought to a standstill."""
        reason = _stalled(plan.status or {})
        if reason and reason != _stalled(item.get("status") or {}):
            self._failures.labels(kind, reason).inc()

    async def text(self) -> bytes:
        """Return the exposition; long ones are made beside the loop, which goes on working."""
        now = self._clock()
        return await asyncio.to_thread(
            self._render,
            _Snapshot(
                depth=len(self._queue),
                oldest_seconds=self._queue.oldest_seconds(),
                ages_seconds={kind: now - moment for kind, moment in self._last_event.items()},
                counts={kind: self._cache.count(kind) for kind in KINDS},
                synced=self._health.synced,
                leading=self._health.leading,
                late_seconds=self._health.late_seconds,
                tasks=len(asyncio.all_tasks()),
                prunejobs=self._cache.all("PruneJob"),
                rollouts=self._cache.all("ModelRollout"),
            ),
        )

    def _render(self, snapshot: _Snapshot) -> bytes:
        own = CollectorRegistry()
        own.register(snapshot)
        return generate_latest(self.registry) + generate_latest(own)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Snapshot(Collector):
    """What one scrape shows; nothing changes it while it is written out."""

    depth: int
    oldest_seconds: float
    ages_seconds: dict[str, float]
    counts: dict[str, int]
    synced: bool
    leading: bool
    late_seconds: float
    tasks: int
    prunejobs: Iterable[JsonObject] = field(repr=False)
    rollouts: Iterable[JsonObject] = field(repr=False)

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield GaugeMetricFamily(
            "coppice_operator_leader",
            "1 where this replica works, 0 where it stands by. The sum over replicas is 1; 0 for longer than a lease"
            " means that nobody works.",
            value=float(self.leading),
        )
        yield GaugeMetricFamily(
            "coppice_operator_caches_synced", "1 once everything watched was listed; nothing is decided before.",
            value=float(self.synced),
        )  # fmt: skip
        yield GaugeMetricFamily(
            "coppice_operator_queue_depth",
            "Objects that are due for a pass. It falls back to 0 between bursts; one that only grows is too much work.",
            value=self.depth,
        )
        yield GaugeMetricFamily(
            "coppice_operator_queue_oldest_seconds", "How long the first of them has been due: the delay a user sees.",
            value=self.oldest_seconds,
        )  # fmt: skip
        yield _by_kind(
            "coppice_operator_last_event_age_seconds",
            "Seconds since the watch of a kind gave something. High is normal where nothing happens, and a lost watch"
            " where something does.",
            self.ages_seconds,
        )
        yield _by_kind("coppice_operator_cached_objects", "Objects in memory.", self.counts)
        yield GaugeMetricFamily(
            "coppice_operator_tasks",
            "Asyncio tasks. It rises with the objects that watches tell of and falls back after; if it only grows,"
            " something leaks.",
            value=self.tasks,
        )
        late = CounterMetricFamily(
            "coppice_operator_loop_late_seconds",
            "Seconds by which the event loop was late. Its rate is the share of time in which nothing else got a turn;"
            " above 0.1 the process has too little CPU or blocks.",
            created=None,
        )
        late.add_metric([], self.late_seconds)
        yield late
        yield from finals.of_prunejobs(self.prunejobs)
        yield from finals.of_rollouts(self.rollouts)


def _by_kind(name: str, text: str, values: dict[str, float] | dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["kind"])
    for kind, value in values.items():
        family.add_metric([kind], value)
    return family


def _stalled(status: JsonObject) -> str:
    """Return the reason of a Stalled condition that holds."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Stalled" and condition.get("status") == "True":
            return str(condition.get("reason", ""))
    return ""
