"""The operator's HTTP: /metrics, /healthz (the loop moves), /readyz (the caches are filled)."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from coppice_operator import profiling
from coppice_operator.health import Health
from coppice_operator.metrics import OperatorMetrics


def application(metrics: OperatorMetrics, health: Health, *, with_profiling: bool = False) -> web.Application:
    """Return the application.

    Args:
        metrics: Shown at /metrics.
        health: Asked by the probes; `?verbose` has them say more.
        with_profiling: Whether there is /debug.
    """

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=await metrics.text(), headers={"Content-Type": CONTENT_TYPE_PLAIN_1_0_0})

    async def alive(request: web.Request) -> web.Response:
        # A loop that stands still does not answer at all; this also fails the first probe after a long stall.
        return _answer(request, health, health.why_dead)

    async def ready(request: web.Request) -> web.Response:
        return _answer(request, health, health.why_not_ready)

    app = web.Application()
    app.add_routes([web.get("/metrics", show), web.get("/healthz", alive), web.get("/readyz", ready)])
    if with_profiling:
        app.add_routes(profiling.routes())
    return app


def _answer(request: web.Request, health: Health, why_not: Callable[[], str | None]) -> web.Response:
    problem = why_not()
    if problem is not None:
        return web.Response(status=503, text=f"{problem}\n")
    told = f"role: {'leader' if health.leading else 'standby'}\nloop late: {health.late_seconds:.3f} s in all\n"
    return web.Response(text="ok\n" + (told if "verbose" in request.query else ""))
