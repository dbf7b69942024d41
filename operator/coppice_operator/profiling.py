"""What the process is doing, for people: `/debug/tasks` and `/debug/memory`, with `--profiling` only.

They answer to loopback only, since stacks and allocations are nobody else's business; `kubectl port-forward` comes from
there too.
"""

from __future__ import annotations

import asyncio
import faulthandler
import io
import ipaddress
import tracemalloc
from collections.abc import Awaitable, Callable

from aiohttp import web

from coppice_operator.health import BEAT_SECONDS, STALL_SECONDS

_FRAMES = 8
_TOP = 40


def routes() -> list[web.RouteDef]:
    """Return the endpoints."""
    return [web.get("/debug/tasks", _loopback_only(_tasks)), web.get("/debug/memory", _loopback_only(_memory))]


async def trace() -> None:
    """Trace allocations for ever, and write all stacks to standard error when the loop stands still."""
    tracemalloc.start(_FRAMES)
    try:
        while True:
            # Runs beside the interpreter, so it also sees a loop that never comes back.
            faulthandler.dump_traceback_later(STALL_SECONDS)
            await asyncio.sleep(BEAT_SECONDS)
    finally:
        faulthandler.cancel_dump_traceback_later()
        tracemalloc.stop()


def _loopback_only(
    handler: Callable[[web.Request], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def guarded(request: web.Request) -> web.Response:
        if not ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback:  # noqa: S104 - not an address to bind
            return web.Response(status=403, text="from loopback only: use kubectl port-forward\n")
        return await handler(request)

    return guarded


async def _tasks(_request: web.Request) -> web.Response:
    """Every asyncio task, with where it waits."""
    out = io.StringIO()
    tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    out.write(f"{len(tasks)} tasks\n")
    for task in tasks:
        out.write(f"\n{task.get_name()}\n")
        task.print_stack(limit=_FRAMES, file=out)
    return web.Response(text=out.getvalue())


async def _memory(_request: web.Request) -> web.Response:
    """The lines that hold most memory, of what was allocated since the start."""

    def report() -> str:
        snapshot = tracemalloc.take_snapshot()
        current, peak = tracemalloc.get_traced_memory()
        lines = [f"{current / 2**20:.1f} MiB traced, {peak / 2**20:.1f} MiB at most"]
        lines += [str(entry) for entry in snapshot.statistics("lineno")[:_TOP]]
        return "\n".join(lines) + "\n"

    return web.Response(text=await asyncio.to_thread(report))
