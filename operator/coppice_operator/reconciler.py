"""Observe, plan, apply: one pass over one key. The planners are pure; this is their shell."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence

from coppice_api.constants import LABEL_PRUNEJOB
from coppice_api.modelrollout import TargetKey, TargetKind
from coppice_operator.cache import Cache, place_of
from coppice_operator.clock import Clock
from coppice_operator.clusters.registry import Clusters
from coppice_operator.clusters.view import ClusterView
from coppice_operator.delivery.publisher import Publisher
from coppice_operator.kube import FencedError, Kube, KubeError, collection_path
from coppice_operator.lister import ABSENT, Watched
from coppice_operator.logs import about
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.plan import JsonObject, Plan
from coppice_operator.progress import ProgressPoller, Subject
from coppice_operator.prunejob.manifest import label_value, shortened
from coppice_operator.prunejob.observation import PruneJobObservation, Refusal
from coppice_operator.prunejob.plan import plan as plan_prunejob
from coppice_operator.prunejob.presets import Presets
from coppice_operator.queue import Key, WorkQueue
from coppice_operator.refusals import Refusals
from coppice_operator.rollout.analysis import due_queries
from coppice_operator.rollout.claims import FINISHED
from coppice_operator.rollout.kinds import KINDS
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.plan import plan as plan_rollout
from coppice_operator.rollout.prometheus import Prometheus
from coppice_operator.rollout.reach import needed
from coppice_operator.writer import RefusedError, StaleError, Writer

STALE_SECONDS = 0.2
LOOK_AGAIN_SECONDS = 10.0
"""How often rollouts look at targets of a kind that nobody watches."""
RESYNC_SECONDS = 300.0
"""Every object is looked at this often, whatever the watches say."""
WORKERS = 16
DRAIN_SECONDS = 5.0
_log = logging.getLogger(__name__)


class Reconciler:
    """Works the queue.

    Args:
        cache: Of everything watched.
        queue: Of keys.
        writer: Carries plans out.
        metrics: Of the operator.
        kube: Asked for what a watch may not have told of yet.
        default_image: Image of runs where the spec names none.
        presets: Where runs go whose hardware class says nothing of it.
        clock: The time.
    """

    def __init__(
        self,
        cache: Cache,
        queue: WorkQueue,
        writer: Writer,
        metrics: OperatorMetrics,
        kube: Kube,
        *,
        default_image: str,
        presets: Presets | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._cache, self._queue, self._writer, self._metrics = cache, queue, writer, metrics
        self._kube, self._default_image, self._clock = kube, default_image, clock or Clock()
        self._presets = presets or {}
        self._working = False
        self._refusals = Refusals()
        self.unwatched: Sequence[Watched] = ()
        """Kinds of other projects that were not there when the watches began."""
        self.poller = ProgressPoller(cache, self._progressed)
        self.publisher = Publisher(kube, lambda *place: self._queue.add(Key("ModelRollout", *place)))
        self.clusters = Clusters(kube, self._queue_rollouts)
        writer.wrote, writer.publish, writer.clusters = self.saw, self.publisher.submit, self.clusters

    async def run(self) -> None:
        """Work until cancelled, beginning with a look at every object; may be run again after that."""
        self._working = True
        try:
            async with Prometheus(self._kube) as prometheus, asyncio.TaskGroup() as tasks:
                tasks.create_task(self.poller.run(), name="progress")
                tasks.create_task(self._resync(), name="resync")
                tasks.create_task(self.publisher.run(), name="git")
                for number in range(WORKERS):
                    tasks.create_task(self._work(prometheus), name=f"worker-{number}")
        finally:
            # What was cut short is as what a crash cut short: the next look at every object repairs it.
            self._working = False
            self._queue.clear()
            self._refusals.clear()
            await self.clusters.close()

    async def drain(self) -> None:
        """Let the passes under way end, within DRAIN_SECONDS, and begin no more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._queue.drain()

    def saw(self, kind: str, item: JsonObject) -> None:
        """Have everything looked at that an object's change may concern; nothing while standing by."""
        if not self._working:
            return
        namespace, name = place_of(item)
        match kind:
            case "PruneJob":
                self._queue.add(Key(kind, namespace, name))
            case "Job" | "Pod":
                label = item["metadata"].get("labels", {}).get(LABEL_PRUNEJOB)
                if label:
                    self._queue_prunejob(namespace, label)
            case "ModelRollout":
                # A sibling that has ended may have held somebody's target.
                self._queue_rollouts(namespace)
                self._queue.add(Key(kind, namespace, name))
                self._queue_owner(item)
            case "Deployment" | "StatefulSet" | "DaemonSet" | "InferenceService":
                self._queue_rollouts(namespace)

    async def _resync(self) -> None:
        while True:
            for kind in ("PruneJob", "ModelRollout"):
                for place in self._cache.places(kind):
                    self._queue.add(Key(kind, *place))
            await asyncio.sleep(RESYNC_SECONDS)

    async def _work(self, prometheus: Prometheus) -> None:
        while True:
            key = await self._queue.get()
            begin, result = time.monotonic(), "ok"
            try:
                self._queue.done(key, await self._pass(key, prometheus))
            except StaleError as error:
                result = "stale"
                _log.debug("%s", error, extra={**about(key), "reason": "Stale"})
                # Soon, but not for ever: what stays stale is a watch that lags, or a server that does not let us.
                self._queue.failed(key, STALE_SECONDS)
            except FencedError as error:
                result = "fenced"
                _log.debug("%s", error, extra={**about(key), "reason": "Fenced"})
                self._queue.failed(key)
            except RefusedError as error:
                result, wait = "refused", self._refusals.note(key, error.children)
                _log.warning("%s; again in %.1f s", error, wait, extra={**about(key), "reason": "Refused"})
                # At once to say so; what was refused is asked for when it is due.
                self._queue.done(key, 0.0)
            except KubeError as error:
                result = "refused"
                _log.warning(
                    "%s; again in %.1f s", error, self._queue.failed(key), extra={**about(key), "reason": "Refused"}
                )
            except asyncio.CancelledError:
                raise
            except Exception:
                # The outermost loop: one object that cannot be planned must not stop the others.
                result = "defect"
                _log.exception(
                    "the pass failed; again in %.1f s",
                    self._queue.failed(key),
                    extra={**about(key), "reason": "Defect"},
                )
            self._metrics.reconcile_seconds.labels(key.kind, result).observe(time.monotonic() - begin)

    async def _pass(self, key: Key, prometheus: Prometheus) -> float | None:
        item = self._cache.get(key.kind, (key.namespace, key.name))
        if item is None:
            self._queue.forget(key)
            self._refusals.forget(key)
            self.clusters.need(key, {})
            return None
        refused = self._refusals.of(key)
        if key.kind == "PruneJob":
            moment = self._clock.now()
            plan = plan_prunejob(self._observe_prunejob(item, refused), moment)
        elif (views := self._look_at_clusters(key, item)) is None:
            # It is looked at again as soon as each of them has answered, or has not in time.
            return None
        else:
            plan = await self._plan_rollout(item, views, prometheus)
        await self._writer.carry_out(plan, key.kind, item, [refusal.message for refusal in refused.values()])
        if not any(refusal.wait_seconds for refusal in refused.values()):
            self._refusals.forget(key)
        self._metrics.carried_out(key.kind, item, plan)
        for event in plan.events:
            _log.info("%s", event.message, extra={**about(key), "reason": event.reason})
        if key.kind == "ModelRollout":
            now = self._cache.get(key.kind, (key.namespace, key.name)) or item
            self._queue_owner(now)
            if _state(now) != _state(item):
                # One that has ended, or waits to take over, may concern the others. A status that we wrote does not
                # come back as an event.
                self._queue_rollouts(key.namespace, but=key.name)
        return plan.requeue_after_seconds

    def _queue_rollouts(self, namespace: str, *, but: str = "") -> None:
        """Have the rollouts of a namespace looked at, all but one where a name is given."""
        for name in self._cache.in_namespace("ModelRollout", namespace):
            if name != but:
                self._queue.add(Key("ModelRollout", namespace, name))

    def _queue_owner(self, rollout: JsonObject) -> None:
        """Have the PruneJob of a rollout looked at; a status that we wrote does not come back as an event."""
        namespace, _ = place_of(rollout)
        for owner in rollout["metadata"].get("ownerReferences") or ():
            if owner.get("kind") == "PruneJob":
                self._queue.add(Key("PruneJob", namespace, owner["name"]))

    def _observe_prunejob(self, item: JsonObject, refused: Mapping[str, Refusal]) -> PruneJobObservation:
        namespace, name = place_of(item)
        label = label_value(name)

        jobs, pods = (self._cache.labelled(kind, namespace, label) for kind in ("Job", "Pod"))
        return PruneJobObservation(
            prunejob=item,
            jobs={job["metadata"]["name"]: job for job in jobs},
            pods=tuple(pods),
            progress=self.poller.of(namespace, label),
            silent_since=self.poller.silent_since(namespace, label),
            rollouts=self._cache.in_namespace("ModelRollout", namespace),
            refused=refused,
            clock_set_at=self._clock.set_at,
            default_image=self._default_image,
            presets=self._presets,
        )

    def _look_at_clusters(self, key: Key, rollout: JsonObject) -> dict[str, ClusterView] | None:
        """Return what is known of the other clusters that a rollout needs; None while one of them is first asked."""
        wanted = needed(rollout)
        self.clusters.need(key, wanted)
        views = {name: self.clusters.view(key.namespace, name) for name in wanted}
        known = {name: view for name, view in views.items() if view is not None}
        return known if len(known) == len(wanted) else None

    async def _plan_rollout(self, item: JsonObject, views: dict[str, ClusterView], prometheus: Prometheus) -> Plan:
        namespace, name = place_of(item)
        missing = await self._look_at_unwatched(item)
        await self._look_for_targets(item)
        observation = RolloutObservation(
            rollout=item,
            siblings=tuple(
                other
                for sibling, other in self._cache.in_namespace("ModelRollout", namespace).items()
                if sibling != name
            ),
            workloads=tuple(body for kind in KINDS for body in self._cache.in_namespace(kind, namespace).values()),
            missing_kinds=missing,
            clusters=views,
            prunejobs=self._cache.in_namespace("PruneJob", namespace).values(),
            published=self.publisher.of(item["metadata"].get("uid", "")),
        )
        now = self._clock.now()
        queries = due_queries(dataclasses.replace(observation, clock_set_at=self._clock.set_at), now)
        answers = await prometheus.ask(queries) if queries else {}
        now = self._clock.now()
        made = plan_rollout(dataclasses.replace(observation, answers=answers, clock_set_at=self._clock.set_at), now)
        if missing is None or _state(item) in FINISHED:
            return made
        # Nobody tells of what is not watched.
        soon = min(made.requeue_after_seconds or LOOK_AGAIN_SECONDS, LOOK_AGAIN_SECONDS)
        return dataclasses.replace(made, requeue_after_seconds=soon)

    async def _look_at_unwatched(self, rollout: JsonObject) -> Mapping[TargetKind, str] | None:
        """List the kinds that a rollout names and nobody watches, because they were not there when we started.

        Returns:
            Of those that are still not there, why; None where the rollout names no such kind.
        """
        namespace, _ = place_of(rollout)
        entries = [*(rollout.get("spec") or {}).get("targets", ()), *(rollout.get("status") or {}).get("targets", ())]
        named = {entry.get("kind") for entry in entries if not entry.get("cluster")}
        looked_at = [watched for watched in self.unwatched if watched.kind in named]
        missing: dict[TargetKind, str] = {}
        for watched in looked_at:
            try:
                with self._cache.listing(watched.kind, namespace) as listing:
                    async for page in self._kube.pages(collection_path(watched.api_version, watched.kind, namespace)):
                        listing.page(page)
                    listing.missing()
            except KubeError as error:
                if error.status not in ABSENT:
                    raise
                missing[TargetKind(watched.kind)] = _absence(watched, error)
        return missing if looked_at else None

    async def _look_for_targets(self, rollout: JsonObject) -> None:
        """Take in the targets that no watch has told of: a rollout turns back when one is deleted, and watches lag."""
        namespace, _ = place_of(rollout)
        for target in (rollout.get("status") or {}).get("targets") or ():
            key = TargetKey.read(target)
            if key is None or key.cluster or key.kind in {watched.kind for watched in self.unwatched}:
                continue
            kind, name = key.kind, key.name
            if self._cache.get(kind, (namespace, name)) is None:
                # A list, since that is what the watch has the right to.
                path = collection_path(KINDS[kind].api_version, kind, namespace)
                for found in await self._kube.list_all(path, fieldSelector=f"metadata.name={name}"):
                    self._cache.put(kind, found)

    def _progressed(self, subject: Subject) -> None:
        self._queue_prunejob(subject[0], subject[1])

    def _queue_prunejob(self, namespace: str, label: str) -> None:
        names = self._cache.in_namespace("PruneJob", namespace)
        if label in names:
            self._queue.add(Key("PruneJob", namespace, label))
        elif shortened(label):
            for name in names:
                if label_value(name) == label:
                    self._queue.add(Key("PruneJob", namespace, name))


def _absence(watched: Watched, error: KubeError) -> str:
    if error.status == 403:
        return f"the operator may not list {watched.kind}s: {error.said}"
    return f"the cluster has no kind {watched.kind} ({watched.api_version}): install what brings it"


def _state(rollout: JsonObject) -> str | None:
    return (rollout.get("status") or {}).get("state")
