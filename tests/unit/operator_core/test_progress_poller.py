"""Asking pods how far they are: who is asked, who has fallen silent, who answers again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from coppice_api.run import Progress
from coppice_operator import progress
from coppice_operator.cache import Cache
from coppice_operator.progress import SILENCE, ProgressPoller, Subject

Json = dict[str, Any]
HERE: Subject = ("default", "digits", "h100")


def job() -> Json:
    return {"metadata": {"name": "j", "namespace": "default", "uid": "u-j", "resourceVersion": "1"}}


def pod(index: str | None = None, **status: Any) -> Json:
    labels = {"coppice.dev/prunejob": "digits", "coppice.dev/hardware": "h100", "batch.kubernetes.io/job-name": "j"}
    if index is not None:
        labels["batch.kubernetes.io/job-completion-index"] = index
    metadata = {
        "name": f"p-{index}", "namespace": "default", "uid": f"u-{index}", "resourceVersion": "1", "labels": labels,
        "ownerReferences": [{"uid": "u-j"}],
    }  # fmt: skip
    return {"metadata": metadata, "status": {"phase": "Running", "podIP": "127.0.0.1", **status}}


@pytest.fixture
async def answers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the pod at 127.0.0.1 says; None hangs up."""
    said: list[Progress | None] = [Progress(iteration=1)]

    async def answer(_request: web.Request) -> web.Response:
        if said[0] is None:
            return web.Response(status=503, text="busy")
        return web.Response(text=said[0].model_dump_json(by_alias=True))

    app = web.Application()
    app.add_routes([web.get("/progress", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setattr(progress, "POD_HTTP_PORT", runner.addresses[0][1])
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 0.01)
    yield said
    await runner.cleanup()


async def test_a_pod_falls_silent_after_a_minute_and_comes_back(answers: list[Progress | None]) -> None:
    cache, changes, now = Cache(), asyncio.Queue[Subject](), [100.0]
    cache.put("Job", job())
    cache.put("Pod", pod("0"))
    # Another of its pods answers for nobody.
    cache.put("Pod", pod("1", podIP="127.0.0.2"))
    poller = ProgressPoller(cache, changes.put_nowait, lambda: now[0])
    polling = asyncio.create_task(poller.run())
    try:
        assert await asyncio.wait_for(changes.get(), 5) == HERE
        assert poller.of("default", "digits") == {"h100": Progress(iteration=1)}
        heard = datetime.now(UTC)
        answers[0] = None
        now[0] += SILENCE.total_seconds() + 1
        assert await asyncio.wait_for(changes.get(), 5) == HERE
        silent_seconds = (heard - poller.silent_since("default", "digits")["h100"]).total_seconds()
        assert silent_seconds == pytest.approx(SILENCE.total_seconds() + 1, abs=5)
        assert poller.of("default", "digits") == {"h100": Progress(iteration=1)}
        answers[0] = Progress(iteration=1)
        assert await asyncio.wait_for(changes.get(), 5) == HERE
        assert poller.silent_since("default", "digits") == {}
        # A pod that is gone is neither heard nor missed.
        cache.remove("Pod", pod("0"))
        while poller.of("default", "digits"):  # noqa: ASYNC110 - nobody is told of that
            await asyncio.sleep(0.01)
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
