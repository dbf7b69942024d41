"""Requests and their fence, against an HTTP server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from coppice_operator.kube import FencedError, Kube, KubeError


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[Path, list[str]]]:
    """A server that answers reads, and never a PATCH; a kubeconfig for it, and the methods it has seen."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.method)
        if request.method == "PATCH":
            await asyncio.sleep(30)
        return web.json_response({"items": []})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as running:
        path = tmp_path / "kubeconfig"
        entry = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{running.port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        document = {"clusters": [entry], "users": [{"name": "u", "user": {}}], "contexts": [context]}
        path.write_text(yaml.safe_dump({**document, "current-context": "c"}))
        yield path, seen


@pytest.mark.parametrize(
    "write",
    [
        lambda kube: kube.create("/x", {}),
        lambda kube: kube.replace("/x", {}),
        lambda kube: kube.merge("/x", {}),
        lambda kube: kube.json_patch("/x", []),
        lambda kube: kube.apply("/x", {}),
        lambda kube: kube.delete("/x", {}),
    ],
    ids=["create", "replace", "merge", "json_patch", "apply", "delete"],
)
async def test_who_may_not_write_sends_nothing(
    server: tuple[Path, list[str]], write: Callable[[Kube], Awaitable[object]]
) -> None:
    kubeconfig, seen = server
    async with Kube(kubeconfig=kubeconfig, fence=lambda: 0.0) as kube:
        with pytest.raises(FencedError):
            await write(kube)
        assert seen == []
        # Reading keeps a standby warm.
        await kube.get("/x")
    assert seen == ["GET"]


async def test_a_write_is_given_up_when_the_right_to_it_ends(server: tuple[Path, list[str]]) -> None:
    kubeconfig, seen = server
    async with Kube(kubeconfig=kubeconfig, fence=lambda: 0.05) as kube:
        with pytest.raises(KubeError) as error:
            await kube.merge("/x", {})
    assert (error.value.status, seen) == (0, ["PATCH"])
