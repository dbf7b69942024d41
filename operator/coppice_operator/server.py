"""The operator's HTTP: /metrics, /healthz (the loop moves), /readyz (the caches are filled)."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from coppice_operator.metrics import OperatorMetrics

READY = web.AppKey("ready", list)


def application(metrics: OperatorMetrics, synced: list[bool]) -> web.Application:
    """Return the application.

    Args:
        metrics: Shown at /metrics.
        synced: Holds True once every cache is filled.
    """

    async def show(_request: web.Request) -> web.Response:
        content_type = {"Content-Type": CONTENT_TYPE_PLAIN_1_0_0}
        return web.Response(body=generate_latest(metrics.registry), headers=content_type)

    async def alive(_request: web.Request) -> web.Response:
        # Answering at all shows that the loop moves.
        return web.Response(text="ok\n")

    async def ready(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if synced else web.Response(status=503, text="caches are being filled\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", show), web.get("/healthz", alive), web.get("/readyz", ready)])
    return app
