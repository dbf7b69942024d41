"""Requests and their fence, against an HTTP server in this process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from coppice_operator.kube import FencedError, Kube, KubeError
from coppice_operator.login import log_in


class Server:
    """Answers reads, and never a PATCH. Whoever does not bring the token is not known."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.encodings: list[str] = []
        self.token = "first"
        self.address = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Answer."""
        self.seen.append(request.method)
        self.encodings.append(request.headers["Accept-Encoding"])
        if request.headers["Authorization"] != f"Bearer {self.token}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        if request.method == "PATCH":
            await asyncio.sleep(30)
        return web.json_response({"items": [], "sent": await request.text()})


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server, which KUBECONFIG names."""
    running = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", running.answer)
    async with TestServer(app) as listening:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        running.address = f"http://127.0.0.1:{listening.port}"
        write_kubeconfig(running.address, "first")
        yield running


def write_kubeconfig(address: str, token: str) -> None:
    entry = {"name": "c", "cluster": {"server": address}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    document = {"clusters": [entry], "users": [{"name": "u", "user": {"token": token}}], "contexts": [context]}
    Path(os.environ["KUBECONFIG"]).write_text(yaml.safe_dump({**document, "current-context": "c"}))


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
async def test_who_may_not_write_sends_nothing(server: Server, write: Callable[[Kube], Awaitable[object]]) -> None:
    async with Kube(fence=lambda: 0.0) as kube:
        with pytest.raises(FencedError):
            await write(kube)
        assert server.seen == []
        # Reading keeps a standby warm.
        await kube.get("/x")
    assert server.seen == ["GET"]


async def test_a_write_is_given_up_when_the_right_to_it_ends(server: Server) -> None:
    async with Kube(fence=lambda: 0.05) as kube:
        with pytest.raises(KubeError) as error:
            await kube.merge("/x", {})
    assert (error.value.status, server.seen) == (0, ["PATCH"])


async def test_a_token_that_was_replaced_is_read_again_and_nothing_fails(server: Server) -> None:
    async with Kube() as kube:
        await kube.get("/x")
        server.token = "second"
        with pytest.raises(KubeError) as error:
            # Nobody has written the new one yet: asking again would change nothing.
            await kube.get("/x")
        assert (error.value.status, len(server.seen)) == (401, 2)
        write_kubeconfig(server.address, "second")
        await kube.create("/x", {})
    assert server.seen == ["GET", "GET", "POST", "POST"]


async def test_whatever_json_can_say_is_sent(server: Server) -> None:
    body = {"half": "\ud83d", "big": 1 << 70, "name": "größer"}
    async with Kube() as kube:
        assert json.loads((await kube.create("/x", body))["sent"]) == body


async def test_only_a_cluster_far_away_compresses_what_it_says(server: Server) -> None:
    async with Kube() as near, near.elsewhere(log_in, 1.0) as far:
        await near.get("/x")
        await far.get("/x")
    assert server.encodings == ["identity", "gzip"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "{: x",
        "current-context: c",
        "{current-context: c, contexts: [{name: c}], clusters: [], users: 1}",
    ],
)
async def test_a_kubeconfig_that_says_nothing_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(KubeError, match=r"no cluster is configured .*set KUBECONFIG"):
        async with Kube():
            pass
