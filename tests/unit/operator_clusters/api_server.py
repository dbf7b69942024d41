"""A stand-in for another cluster's API server: Deployments in one namespace, behind TLS and a token."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.git_servers.https import certificate, public_part

Json = dict[str, Any]
PATH = "/apis/apps/v1/namespaces/fleet/deployments"


class ApiServer:
    """What it has, and how it answers; `url` while it is served."""

    def __init__(self, pem: Path) -> None:
        self.pem, self.url, self.token = pem, "", "first"
        self.version = 1
        self.objects: dict[str, Json] = {}
        self.answer = 200
        """Status of everything it says."""
        self.silent = False
        """Whether it takes requests and says nothing."""
        self.requests: list[str] = []
        self.open_watches = 0
        self.keeps = 0
        """The oldest version from which a watch may begin."""
        self._events: list[Json] = []
        self._news = asyncio.Event()

    def put(self, name: str, **status: Any) -> Json:
        """Make or change a Deployment."""
        self.version += 1
        known = self.objects.get(name)
        metadata = {"name": name, "namespace": "fleet", "uid": f"u-{name}", "resourceVersion": str(self.version)}
        item = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "status": status}
        self.objects[name] = item
        self._tell("MODIFIED" if known else "ADDED", item)
        return item

    def delete(self, name: str) -> None:
        """Take a Deployment away."""
        self.version += 1
        item = self.objects.pop(name)
        item["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", item)

    def drop(self) -> None:
        """End every watch, and forget what there was to tell."""
        self._events.clear()
        self.keeps = self.version + 1
        self._wake()

    def kubeconfig(self, **user: Any) -> str:
        """Return a kubeconfig for it."""
        authority = base64.b64encode(public_part(self.pem).encode()).decode()
        return yaml.safe_dump({
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "u", "user": user or {"token": self.token}}],
        })  # fmt: skip

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        self.requests.append(f"{request.method} {request.path}")
        if self.silent:
            await asyncio.sleep(3600)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        if self.answer != 200:
            return web.json_response({"message": "s3cr3t"}, status=self.answer)
        if request.method == "PATCH":
            name = request.path.rpartition("/")[2]
            return web.json_response(self.put(name))
        if "watch" in request.query:
            return await self._watch(request)
        items = [json.loads(json.dumps(item)) for item in self.objects.values()]
        return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        told = int(request.query["resourceVersion"])
        self.open_watches += 1
        try:
            if told < self.keeps - 1:
                await _line(response, {"type": "ERROR", "object": {"code": 410, "message": "too old"}})
                return response
            keeps = self.keeps
            while keeps == self.keeps:
                for event in [*self._events]:
                    version = int(event["object"]["metadata"]["resourceVersion"])
                    if version > told:
                        told = version
                        await _line(response, event)
                news = self._news
                await news.wait()
        finally:
            self.open_watches -= 1
        return response

    def _tell(self, kind: str, item: Json) -> None:
        self._events.append({"type": kind, "object": json.loads(json.dumps(item))})
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[ApiServer]:
    """Serve one until the end."""
    server = ApiServer(certificate(folder))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(server.pem)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    running = TestServer(application, scheme="https")
    await running.start_server(ssl=tls)
    server.url = f"https://127.0.0.1:{running.port}"
    try:
        yield server
    finally:
        await running.close()


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition, but not for ever."""
    async with asyncio.timeout(20):
        while not condition():
            assert what
            await asyncio.sleep(0.01)


async def _line(response: web.StreamResponse, event: Json) -> None:
    await response.write(json.dumps(event).encode() + b"\n")
