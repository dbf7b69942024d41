"""`coppice operator`: Kopf watches, the queue works. Handlers only translate an event into the cache and a key."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import kopf
from aiohttp import web

from coppice_api.constants import API_VERSION, GROUP, LABEL_PRUNEJOB, VERSION
from coppice_operator.cache import Cache
from coppice_operator.kube import Kube, KubeError, collection_path
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.plan import JsonObject
from coppice_operator.queue import WorkQueue
from coppice_operator.reconciler import Reconciler
from coppice_operator.server import application
from coppice_operator.writer import Writer

_RETRY_SECONDS = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watched:
    """One kind the operator watches."""

    kind: str
    api_version: str
    selector: tuple[str, str, str]
    """(group, version, plural)."""
    labelled: bool = False
    """Only objects that carry our label."""


WATCHED = (
    # Children before parents: a PruneJob is never looked at before its Jobs are known.
    Watched("Job", "batch/v1", ("batch", "v1", "jobs"), labelled=True),
    Watched("Pod", "v1", ("", "v1", "pods"), labelled=True),
    Watched("Deployment", "apps/v1", ("apps", "v1", "deployments")),
    Watched("ModelRollout", API_VERSION, (GROUP, VERSION, "modelrollouts")),
    Watched("PruneJob", API_VERSION, (GROUP, VERSION, "prunejobs")),
)


@dataclass(frozen=True, kw_only=True)
class OperatorOptions:
    """How the operator runs."""

    namespace: str | None = None
    """Watched namespace; None watches all."""
    default_image: str = "coppice:0.1.0"
    """Image of runs where the spec names none."""
    host: str = "0.0.0.0"  # noqa: S104 - probes and Prometheus come from other pods
    port: int = 9403
    """Of /metrics, /healthz and /readyz; 0 takes a free one."""


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


def main(options: OperatorOptions) -> None:
    """Run until SIGTERM or SIGINT."""
    try:
        import uvloop

        runner: Callable[..., Any] = uvloop.run
    except ImportError:
        runner = asyncio.run
    runner(run(options))


async def run(options: OperatorOptions) -> None:
    """Run until told to end; the current passes end first."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics, cache, queue, synced = OperatorMetrics(), Cache(), WorkQueue(), list[bool]()
    async with Kube(metrics.api_requests) as kube:
        reconciler = Reconciler(cache, queue, Writer(kube, cache), metrics, default_image=options.default_image)
        metrics.watch(cache, queue)
        server = web.AppRunner(application(metrics, synced), access_log=None)
        await server.setup()
        try:
            site = web.TCPSite(server, options.host, options.port)
            await site.start()
            await _prime(kube, cache, options, stop)
            if stop.is_set():
                return
            synced.append(True)
            _log.info("watching %s", options.namespace or "every namespace")
            await _serve(_registry(cache, reconciler, metrics), reconciler, options, stop)
        finally:
            await server.cleanup()


async def _serve(
    registry: kopf.OperatorRegistry, reconciler: Reconciler, options: OperatorOptions, stop: asyncio.Event
) -> None:
    watching = asyncio.create_task(
        kopf.operator(
            registry=registry, settings=_settings(), standalone=True, stop_flag=stop,
            **({"namespaces": [options.namespace]} if options.namespace else {"clusterwide": True}),
        ),
        name="kopf",
    )  # fmt: skip
    working = asyncio.create_task(reconciler.run(), name="reconciler")
    try:
        await asyncio.wait((watching, working), return_when=asyncio.FIRST_COMPLETED)
        for task in (watching, working):
            if task.done():
                task.result()
    finally:
        stop.set()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        await watching


async def _prime(kube: Kube, cache: Cache, options: OperatorOptions, stop: asyncio.Event) -> None:
    """Fill the caches before anything is decided: what is not in them is taken for missing."""
    for watched in WATCHED:
        path = collection_path(watched.api_version, watched.kind, options.namespace)
        query = {"labelSelector": LABEL_PRUNEJOB} if watched.labelled else {}
        while not stop.is_set():
            try:
                cache.replace(watched.kind, await kube.list_all(path, **query))
                break
            except KubeError as error:
                _log.warning("cannot list %s: %s; again in %.0f s", watched.kind, error, _RETRY_SECONDS)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _RETRY_SECONDS)


def _registry(cache: Cache, reconciler: Reconciler, metrics: OperatorMetrics) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    # In the order of Kube: the pod's service account, else a kubeconfig.
    for login in (kopf.login_with_service_account, kopf.login_with_kubeconfig):
        kopf.on.login(registry=registry, id=login.__name__, errors=kopf.ErrorsMode.IGNORED)(login)
    for watched in WATCHED:
        labels = {LABEL_PRUNEJOB: kopf.PRESENT} if watched.labelled else None
        kopf.on.event(*watched.selector, labels=labels, registry=registry, id=watched.kind)(
            _handler(watched.kind, cache, reconciler, metrics)
        )
    return registry


def _handler(kind: str, cache: Cache, reconciler: Reconciler, metrics: OperatorMetrics) -> Callable[..., Any]:
    async def handle(event: Any, **_: Any) -> None:
        item: JsonObject = dict(event["object"])
        metrics.saw_event(kind)
        if event["type"] == "DELETED":
            cache.remove(kind, item)
        elif not cache.put(kind, item):
            return
        reconciler.saw(kind, item)

    return handle


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = _NothingStored()
    settings.persistence.progress_storage = _NoProgress()
    settings.posting.enabled = False
    settings.networking.error_backoffs = _BackOffs()
    settings.scanning.disabled = True
    # Longer than the server's: a watch that ends by itself is no error.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    return settings
