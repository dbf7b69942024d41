"""What probes and people get over HTTP."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from coppice_operator import profiling
from coppice_operator.health import STALL_SECONDS, Health
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.server import application


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


async def test_probes_say_what_is_wrong() -> None:
    clock = Clock()
    health = Health(clock)
    async with TestClient(TestServer(application(OperatorMetrics(), health))) as client:

        async def probe(path: str) -> tuple[int, str]:
            answer = await client.get(path)
            return answer.status, await answer.text()

        assert await probe("/healthz") == (200, "ok\n")
        assert await probe("/readyz") == (503, "caches are being filled\n")
        health.synced = True
        assert await probe("/readyz") == (200, "ok\n")
        assert "role: standby" in (await probe("/readyz?verbose"))[1]
        health.leading = True
        assert "role: leader" in (await probe("/readyz?verbose"))[1]
        clock.seconds += STALL_SECONDS + 2
        status, text = await probe("/healthz")
        assert (status, "has not moved" in text) == (503, True)


@pytest.mark.parametrize(("with_profiling", "status"), [(False, 404), (True, 200)])
async def test_stacks_are_shown_where_they_are_asked_for(with_profiling: bool, status: int) -> None:
    app = application(OperatorMetrics(), Health(), with_profiling=with_profiling)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/debug/tasks")
        assert answer.status == status


@pytest.mark.parametrize("address", ["10.0.0.9", "fd00::9"])
async def test_stacks_are_for_loopback_only(address: str) -> None:
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (address, 5) if name == "peername" else default
    for route in profiling.routes():
        request = make_mocked_request("GET", route.path, transport=transport)
        answer = await route.handler(request)  # type: ignore[misc,arg-type]
        assert isinstance(answer, web.Response)
        assert answer.status == 403
