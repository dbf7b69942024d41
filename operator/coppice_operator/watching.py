"""Kopf's part: it watches, and its handlers only translate an event into the cache and a key."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import kopf

from coppice_api.constants import API_VERSION, LABEL_PRUNEJOB
from coppice_operator.cache import Cache
from coppice_operator.kube import LIST_LIMIT
from coppice_operator.lister import Lister, Watched
from coppice_operator.login import LOGINS
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.plan import JsonObject
from coppice_operator.rollout.kinds.inference_service import API_VERSION as INFERENCE_SERVICES
from coppice_operator.unending import Known, persist

_IDENTITY: Any = "coppice-operator"
"""Of a peer among Kopf's; with `standalone` there are none."""

WORKER_IDLE_SECONDS = 0.1
WATCHED = (
    # Children before parents: a PruneJob is never looked at before its Jobs are known.
    Watched("Job", "batch/v1", "jobs", labelled=True),
    Watched("Pod", "v1", "pods", labelled=True),
    Watched("Deployment", "apps/v1", "deployments"),
    Watched("StatefulSet", "apps/v1", "statefulsets"),
    Watched("DaemonSet", "apps/v1", "daemonsets"),
    Watched("InferenceService", INFERENCE_SERVICES, "inferenceservices", optional=True),
    Watched("ModelRollout", API_VERSION, "modelrollouts"),
    Watched("PruneJob", API_VERSION, "prunejobs"),
)


class _NothingStored(kopf.DiffBaseStorage):
    """No last-handled state: there are no change handlers, and the annotation would be a write to every object."""

    def fetch(self, *, body: Any) -> None:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Store nothing."""

    def build(self, *, body: Any, extra_fields: Any = None, ignored_fields: Any = None) -> Any:
        return {}


class _NoProgress(kopf.ProgressStorage):
    """No handler progress: retries are the queue's."""

    def fetch(self, *, key: Any, body: Any) -> None:
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Store nothing."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Purge nothing."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Touch nothing."""

    def clear(self, *, essence: Any) -> Any:
        return essence


class _BackOffs:
    """Seconds between the attempts of a watch, without end: Kopf would give up after nine and take the operator down.

    It must have no length: Kopf counts attempts when it has one.
    """

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((0.5, 1.0, 2.0, 4.0), itertools.repeat(5.0))


@contextlib.asynccontextmanager
async def watching(
    registry: kopf.OperatorRegistry, known: Known, namespaces: Sequence[str], on_signals: Callable[[], None]
) -> AsyncIterator[asyncio.Task[None]]:
    """Watch, everywhere when no namespace is named, until the block ends.

    When it ends Kopf waits for every task begun since it started, and then cancels it: have none left.

    Args:
        registry: What is called for each event.
        known: Asked whether an event needs no call.
        namespaces: Where.
        on_signals: Called once Kopf has put its own handlers of signals in the place of ours.
    """
    persist(known)
    where: dict[str, Any] = {"namespaces": list(namespaces)} if namespaces else {"clusterwide": True}
    stop = asyncio.Event()

    async def run() -> None:
        others = asyncio.all_tasks()
        # Kopf's own would hold the user's name, and the user of a container has none.
        tasks = await kopf.spawn_tasks(
            registry=registry, settings=settings(), standalone=True, stop_flag=stop, identity=_IDENTITY, **where
        )
        on_signals()
        await kopf.run_tasks(tasks, ignored=others)

    task = asyncio.create_task(run(), name="kopf")
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait((task,))


def known(cache: Cache, lister: Lister, metrics: OperatorMetrics) -> Known:
    """Return what hears every event before Kopf does, and says whether the cache has it already."""

    def hear(resource: Any, event_type: str | None, item: JsonObject) -> bool:
        metrics.saw_event(resource.kind)
        lister.heard(event_type, item)
        return event_type != "DELETED" and cache.has(resource.kind, item)

    return hear


def handlers(
    cache: Cache, saw: Callable[[str, JsonObject], None], watched: Sequence[Watched] = WATCHED
) -> kopf.OperatorRegistry:
    """Return what Kopf calls for each event.

    Args:
        cache: Gets every object.
        saw: Told of what was news.
        watched: What there is to watch.
    """
    registry = kopf.OperatorRegistry()
    for login in LOGINS:
        kopf.on.login(registry=registry, id=login.__name__, errors=kopf.ErrorsMode.IGNORED)(login)
    for item in watched:
        kopf.on.event(*item.selector, registry=registry, id=item.kind)(_handler(item.kind, cache, saw))
    return registry


def settings() -> kopf.OperatorSettings:
    """Return Kopf's settings: it stores, posts and gives up nothing."""
    chosen = kopf.OperatorSettings()
    chosen.persistence.diffbase_storage = _NothingStored()
    chosen.persistence.progress_storage = _NoProgress()
    chosen.posting.enabled = False
    chosen.networking.error_backoffs = _BackOffs()
    chosen.scanning.disabled = True
    # Kopf keeps a task for each object it told of, in case of more: 20,000 after a start beside 10,000 PruneJobs.
    chosen.queueing.idle_timeout = WORKER_IDLE_SECONDS
    # Longer than the server's: a watch that ends by itself is no error.
    chosen.watching.server_timeout = 300
    chosen.watching.client_timeout = 310
    chosen.watching.chunk_size = LIST_LIMIT
    for watched in WATCHED:
        if watched.labelled:
            # The server filters: other people's pods never reach us, and losing the label reads as a deletion.
            chosen.watching.label_selectors[watched.selector] = LABEL_PRUNEJOB
    return chosen


def _handler(kind: str, cache: Cache, saw: Callable[[str, JsonObject], None]) -> Callable[..., Any]:
    async def handle(event: Any, **_: Any) -> None:
        item: JsonObject = dict(event["object"])
        if event["type"] == "DELETED":
            cache.remove(kind, item)
        elif not cache.put(kind, item):
            return
        saw(kind, item)

    return handle
