"""The demo's client: whom it sends to, and that it counts what a user would feel."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from digits.pods import Endpoint, Fleet, endpoint_of
from digits.traffic import Traffic

INPUTS = np.arange(12, dtype=np.float32).reshape(4, 3)
LABELS = np.array([0, 1, 0, 1])


def pod(name: str = "a-1", *, deployment: str = "a", ready: str = "True", **changes: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"app.kubernetes.io/name": deployment}}
    if changes.get("terminating"):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "metadata": metadata,
        "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {
            "podIP": changes.get("ip", "127.0.0.9"),
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def test_a_ready_pod_is_an_endpoint() -> None:
    assert endpoint_of(pod()) == Endpoint("a-1", "http://127.0.0.9:8080")


@pytest.mark.parametrize(
    "unusable",
    [
        pytest.param(pod(ready="False"), id="not-ready"),
        pytest.param(pod(terminating=True), id="terminating"),
        pytest.param(pod(ip=None), id="no-address"),
        pytest.param({**pod(), "status": {}}, id="no-status"),
        pytest.param({**pod(), "spec": {"containers": [{}]}}, id="no-port"),
    ],
)
def test_any_other_pod_is_not(unusable: dict[str, Any]) -> None:
    assert endpoint_of(unusable) is None


def test_pods_take_turns_and_leave_when_they_terminate() -> None:
    fleet = Fleet("demo", "")
    for name in ("a-1", "a-2"):
        fleet.see(pod(name))
    assert {fleet.next_endpoint("a").pod for _ in range(2)} == {"a-1", "a-2"}  # type: ignore[union-attr]
    fleet.see(pod("a-1", terminating=True))
    fleet.forget(pod("a-2"))
    assert fleet.next_endpoint("a") is None
    assert fleet.deployments == ("a",)


def test_a_deployment_counts_from_its_first_ready_pod() -> None:
    fleet = Fleet("demo", "")
    fleet.see(pod(ready="False"))
    assert fleet.deployments == ()


def test_a_new_list_drops_the_pods_it_lacks() -> None:
    fleet = Fleet("demo", "")
    fleet.see(pod("a-1"))
    fleet.replace([pod("a-2")])
    assert [fleet.next_endpoint("a").pod for _ in range(2)] == ["a-2", "a-2"]  # type: ignore[union-attr]


def test_a_lag_keeps_sending_to_a_pod_that_leaves_for_so_long() -> None:
    now = [0.0]
    fleet = Fleet("demo", "", lag_seconds=2.0, clock=lambda: now[0])
    for name in ("a-1", "a-2"):
        fleet.see(pod(name))
    fleet.see(pod("a-1", terminating=True))
    now[0] = 1.9
    fleet.forget(pod("a-1"))
    assert {fleet.next_endpoint("a").pod for _ in range(2)} == {"a-1", "a-2"}  # type: ignore[union-attr]
    now[0] = 2.0
    assert {fleet.next_endpoint("a").pod for _ in range(2)} == {"a-2"}  # type: ignore[union-attr]


class Server:
    """Answers what it is told to and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: Any = {
            "model_version": "d1",
            "outputs": [{"name": "class", "shape": [2], "datatype": "INT64", "data": [0, 0]}],
        }
        self.requests: list[Any] = []

    async def infer(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        return web.Response(text=json.dumps(self.answer), status=self.status)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def endpoint(server: Server) -> AsyncIterator[Endpoint]:
    app = web.Application()
    app.router.add_post("/v2/models/digits/infer", server.infer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield Endpoint("a-1", f"http://127.0.0.1:{runner.addresses[0][1]}")
    await runner.cleanup()


async def send(traffic: Traffic, endpoint: Endpoint | None) -> None:
    async with aiohttp.ClientSession() as session:
        await traffic.send(session, "a", endpoint, "digits")


async def test_an_answer_is_counted_with_its_digest_and_its_right_classes(server: Server, endpoint: Endpoint) -> None:
    traffic = Traffic(INPUTS, LABELS, batch=2)
    await send(traffic, endpoint)
    await send(traffic, endpoint)
    figures = traffic.summary()["deployments"]["a"]
    assert (figures["sent"], figures["failed"], figures["samples"]) == (2, 0, 4)
    assert figures["accuracy_ratio"] == 0.5
    assert figures["digests"] == {"d1": 2}
    assert figures["latency_p50_seconds"] > 0
    assert [request["inputs"][0]["data"][0] for request in server.requests] == [0.0, 6.0]


@pytest.mark.parametrize(
    ("status", "answer", "want"),
    [
        pytest.param(503, {"error": "loading"}, "HTTP 503", id="unavailable"),
        pytest.param(500, {"error": "broken"}, "HTTP 500", id="broken"),
        pytest.param(200, {"model_version": "d1", "outputs": []}, "ValueError", id="no-class"),
        pytest.param(200, {"outputs": [{"name": "class", "data": [0, 0]}]}, "KeyError", id="no-version"),
        pytest.param(
            200,
            {"model_version": "d1", "outputs": [{"name": "class", "data": [0]}]},
            "1 classes for 2 samples",
            id="too-few",
        ),
    ],
)
async def test_an_answer_that_does_not_fit_is_a_failure_and_is_not_retried(
    server: Server, endpoint: Endpoint, status: int, answer: Any, want: str
) -> None:
    server.status, server.answer = status, answer
    traffic = Traffic(INPUTS, LABELS, batch=2)
    await send(traffic, endpoint)
    summary = traffic.summary()
    assert (summary["sent"], summary["failed"]) == (1, 1)
    assert want in summary["failures"][0]["reason"]
    assert len(server.requests) == 1


async def test_a_refused_connection_and_an_empty_deployment_are_failures() -> None:
    traffic = Traffic(INPUTS, LABELS, batch=2)
    await send(traffic, Endpoint("a-1", "http://127.0.0.1:1"))
    await send(traffic, None)
    summary = traffic.summary()
    assert (summary["sent"], summary["failed"]) == (2, 2)
    assert [failure["pod"] for failure in summary["failures"]] == ["a-1", None]
    assert "no Ready pod" in summary["failures"][1]["reason"]
