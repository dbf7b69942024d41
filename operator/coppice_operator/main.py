"""`coppice operator`: what runs, and in which order it begins and ends.

    serve -> prime the caches -> watch -> lead (at once, or when the Lease says so) -> work

To end: begin no more passes, let those under way end, give the Lease back, stop watching.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from coppice_operator import profiling
from coppice_operator.cache import Cache
from coppice_operator.health import Health
from coppice_operator.kube import Kube
from coppice_operator.leader import Elector, LeaseOptions, own_identity
from coppice_operator.lister import Lister
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.prunejob.presets import Presets
from coppice_operator.queue import WorkQueue
from coppice_operator.reconciler import Reconciler
from coppice_operator.server import application
from coppice_operator.tasks import cancel
from coppice_operator.watching import WATCHED, handlers, known, watching
from coppice_operator.writer import Writer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OperatorOptions:
    """How the operator runs."""

    namespaces: tuple[str, ...] = ()
    """Watched namespaces; empty watches all."""
    default_image: str = "coppice:0.1.0"
    """Image of runs where the spec names none."""
    presets: Presets = field(default_factory=dict)
    """Where runs go whose hardware class says nothing of it."""
    host: str = "0.0.0.0"  # noqa: S104 - probes and Prometheus come from other pods
    port: int = 9403
    """Of /metrics, /healthz and /readyz; 0 takes a free one."""
    lease: LeaseOptions | None = None
    """The Lease to lead by; None works at once, as the only replica."""
    profiling: bool = False
    """Whether allocations are traced and shown, with tasks, at /debug."""


_COLLECTOR_THRESHOLDS = (5000, 20, 20)
"""Objects more than before, and rounds, until Python looks for cycles: a list of 50 objects is 15,000."""


def main(options: OperatorOptions) -> None:
    """Run until SIGTERM or SIGINT."""
    # What is loaded stays: looking through it again and again is more than half of what reading a list takes.
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)
    try:
        import uvloop

        runner: Callable[..., Any] = uvloop.run
    except ImportError:
        runner = asyncio.run
    runner(run(options))


async def run(options: OperatorOptions) -> None:
    """Run until told to end; the current passes end first."""
    stop = asyncio.Event()
    _on_signals(stop)
    metrics, health, cache, queue = OperatorMetrics(), Health(), Cache(), WorkQueue()
    async with contextlib.AsyncExitStack() as stack:
        elector = await _elector(stack, metrics, options.lease)
        kube = await stack.enter_async_context(
            Kube(metrics.api_requests, fence=elector.seconds_left if elector else None)
        )
        reconciler = Reconciler(
            cache, queue, Writer(kube, cache), metrics, kube,
            default_image=options.default_image, presets=options.presets,
        )  # fmt: skip
        lister = Lister(kube, cache, WATCHED, options.namespaces, reconciler.saw, metrics)
        metrics.watch(cache, queue, health)
        server = web.AppRunner(application(metrics, health, with_profiling=options.profiling), access_log=None)
        await server.setup()
        stack.push_async_callback(server.cleanup)
        await web.TCPSite(server, options.host, options.port).start()
        await lister.prime(stop)
        if stop.is_set():
            return
        reconciler.unwatched = [watched for watched in WATCHED if watched not in lister.watched]
        health.synced = True
        _log.info("watching %s", ", ".join(options.namespaces) or "every namespace")

        async def lead() -> None:
            health.leading = True
            # The watches of a replica that stood by, or was cut off, may have missed something.
            lister.freshen()
            try:
                await reconciler.run()
            finally:
                health.leading = False

        helpers = {"lister": lister.run(), "beat": health.beat()}
        if options.profiling:
            helpers["trace"] = profiling.trace()
        registry, heard = handlers(cache, reconciler.saw, lister.watched), known(cache, lister, metrics)
        async with watching(registry, heard, options.namespaces, lambda: _on_signals(stop)) as watcher:
            leader = asyncio.create_task(elector.run(lead) if elector else lead(), name="leader")
            others = [asyncio.create_task(item, name=name) for name, item in helpers.items()]
            try:
                await _first((watcher, leader, *others), stop)
                await reconciler.drain()
            finally:
                await cancel((leader, *others))
                await server.cleanup()


def _on_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _elector(
    stack: contextlib.AsyncExitStack, metrics: OperatorMetrics, lease: LeaseOptions | None
) -> Elector | None:
    if lease is None:
        return None
    # A session of its own: renewals are not fenced, wait behind no other request, and give up soon.
    kube = Kube(metrics.api_requests, timeout_seconds=lease.retry_seconds)
    return Elector(await stack.enter_async_context(kube), lease, own_identity())


async def _first(tasks: Sequence[asyncio.Task[None]], stop: asyncio.Event) -> None:
    """Return when told to stop, or when a task ends; raise what it raised."""
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        done, _ = await asyncio.wait((*tasks, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel((stopped,))
    for task in done - {stopped}:
        await task
