"""A reverse proxy that writes down which rights a client uses.

It stands between the operator and the real API server, forwards every request as it is, and notes verb and resource as
RBAC names them. To see also what the operator does when a child exists already, which takes an answer lost at the right
moment, it sends the first creation of some resources twice: the client reads the second answer, 409.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import yaml
from aiohttp import web

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/[^/]+(?:/namespaces/[^/]+(?=/))?/(?P<resource>[^/]+)(?:/(?P<name>[^/]+))?"
    r"(?:/(?P<sub>.+))?"
)
_DOUBLED = {"jobs", "modelrollouts", "events"}


class Right(NamedTuple):
    """One verb on one resource."""

    verb: str
    group: str
    resource: str


class Recorder:
    """Use with `with`; runs in a thread of its own."""

    def __init__(self, server: str, ca_file: Path) -> None:
        self._server, self._ca_file = server, ca_file
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="recorder", daemon=True)
        self._doubled = set[str]()
        self._open = set[asyncio.Task[Any]]()
        self.used = set[Right]()
        self.refused = list[str]()
        """What the API server answered with 401 or 403, but for writes into a namespace that is being deleted."""
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def kubeconfig(self, path: Path, token: str) -> Path:
        """Write a kubeconfig of a token, by way of the recorder."""
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "recorded",
            "clusters": [{"name": "recorded", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "operator", "user": {"token": token}}],
            "contexts": [{"name": "recorded", "context": {"cluster": "recorded", "user": "operator"}}],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(document))
        return path

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(self._ca_file)), limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, trust_env=False, timeout=aiohttp.ClientTimeout(total=None)
        )
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        # Watches that nobody reads any more still wait for news.
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._runner.cleanup()
        await self._session.close()
        # Transports that were closed are gone some rounds of the loop later.
        for _ in range(20):
            await asyncio.sleep(0)

    async def _forward(self, incoming: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        right = self._note(incoming)
        body = await incoming.read()
        headers = {
            key: incoming.headers[key] for key in ("Authorization", "Accept", "Content-Type") if key in incoming.headers
        }

        def ask() -> Any:
            return self._session.request(
                incoming.method, self._server + incoming.path_qs, headers=headers, data=body or None
            )

        if right and right.verb == "create" and right.resource in _DOUBLED - self._doubled:
            self._doubled.add(right.resource)
            async with ask() as lost:
                await lost.read()
        async with ask() as answer:
            if answer.status in (401, 403) and "NamespaceTerminating" not in (text := await answer.text()):
                self.refused.append(f"{incoming.method} {incoming.path}: {text}")
            outgoing = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await outgoing.prepare(incoming)
            # A watch ends when either side has had enough of it.
            try:
                async for chunk in answer.content.iter_any():
                    await outgoing.write(chunk)
                await outgoing.write_eof()
            except (aiohttp.ClientError, ConnectionError, asyncio.CancelledError):
                # A polite end of TLS would outlive the loop.
                for transport in (answer.connection and answer.connection.transport, incoming.transport):
                    if transport:
                        transport.abort()
            return outgoing

    def _note(self, request: web.Request) -> Right | None:
        found = _PATH.fullmatch(request.path)
        if found is None:
            # Discovery, which everybody may do.
            return None
        read = "watch" if request.query.get("watch") == "true" else "get" if found["name"] else "list"
        resource = f"{found['resource']}/{found['sub']}" if found["sub"] else found["resource"]
        right = Right(_VERBS.get(request.method, read), found["group"] or "", resource)
        self.used.add(right)
        return right
