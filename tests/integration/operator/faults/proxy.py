"""A reverse proxy between one operator process and the real API server, which does wrong what a test asks for.

Requests go through untouched until a fault strikes. Every write is recorded with what the API server answered, whether
or not the operator lived to read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

READS = ("get", "list", "watch")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_HOP_BY_HOP = {"connection", "host", "keep-alive", "te", "trailers", "transfer-encoding", "upgrade", "content-length"}
_RESOURCE = re.compile(r"/(?:api/[^/]+|apis/[^/]+/[^/]+)(?:/namespaces/[^/]+(?=/))?/([^/]+)(?:/([^/]+)(?:/(.+))?)?$")
_START_SECONDS = 10.0


@dataclass(frozen=True)
class Refuse:
    """The API server is not asked; the operator reads this status."""

    status: int
    message: str = "refused by the test"
    retry_after: int | None = None


@dataclass(frozen=True)
class Slow:
    """The API server is asked this much later."""

    seconds: float


@dataclass(frozen=True)
class Cut:
    """The API server does what it is asked; the connection breaks before its answer."""


@dataclass(frozen=True)
class Kill:
    """The API server does what it is asked; then the operator is killed."""

    answered: bool
    """Whether the answer is on its way to the operator before that."""


@dataclass(frozen=True)
class Gone:
    """410: an ERROR event on a watch, a plain answer elsewhere."""


@dataclass(frozen=True)
class Answer:
    """The API server is not asked; the operator reads this with status 200: an ERROR event, half a line, nothing."""

    text: str


@dataclass(frozen=True)
class Then:
    """The API server does what it is asked; then something happens; then the operator reads the answer."""

    happens: Callable[[], None]


@dataclass(frozen=True)
class First:
    """Something happens; then the API server is asked."""

    happens: Callable[[], None]


Effect = First | Then | Answer | Refuse | Slow | Cut | Kill | Gone


@dataclass(frozen=True)
class Request:
    """What the operator asked for."""

    verb: str
    """As RBAC names them, deletecollection apart."""
    resource: str
    """`jobs`, `prunejobs/status`."""
    path: str
    query: str

    @property
    def write(self) -> bool:
        """Whether it changes anything."""
        return self.verb not in READS

    @classmethod
    def of(cls, method: str, path: str, query: str) -> Request:
        """Read a request line."""
        found = re.match(
            r"/(?:api/[^/]+|apis/[^/]+/[^/]+)(?:/namespaces/[^/]+(?=/))?/([^/]+)(?:/([^/]+)(?:/(.+))?)?$", path
        )
        kind, name, subresource = found.groups() if found else ("", None, None)
        read = "watch" if "watch=" in query else "get" if name or not kind else "list"
        return cls(_VERBS.get(method, read), f"{kind}/{subresource}" if subresource else kind, path, query)


@dataclass(frozen=True)
class Write:
    """A write that reached the API server."""

    request: Request
    digest: str
    """Of the body."""
    status: int
    """What the API server answered."""

    @property
    def kind(self) -> str:
        """What it does to what: `create jobs`, `update prunejobs/status`."""
        return f"{self.request.verb} {self.request.resource}"


@dataclass
class Fault:
    """One thing that goes wrong."""

    effect: Effect
    applies: Callable[[Request], bool]
    times: int
    """How often; what comes after goes through."""
    skip: int
    """How many requests it lets pass first."""
    struck: int = field(default=0)

    def claims(self, request: Request) -> bool:
        """Whether it strikes this request; counts."""
        if self.struck >= self.times or not self.applies(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.struck += 1
        return True


class FaultProxy:
    """Use with `with`; all of them run in one thread.

    Args:
        server: Base URL of the real API server.
        ca_file: What to verify it with.
    """

    def __init__(self, server: str, ca_file: Path) -> None:
        self._server, self._ca_file = server, ca_file
        self._faults: list[Fault] = []
        self._loop = _shared_loop()
        self._handlers: set[asyncio.Task[Any]] = set()
        self._watches: set[asyncio.Transport] = set()
        """To the operator."""
        self.port = 0
        self.writes: list[Write] = []
        self.requests: list[Request] = []
        self.victim: Callable[[], None] = lambda: None
        """Kills the operator."""

    def __enter__(self) -> Self:
        """Listen."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_START_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_START_SECONDS)

    def inject(
        self, effect: Effect, *, verb: str = ".*", resource: str = ".*", path: str = "", times: int = 1, skip: int = 0
    ) -> Fault:
        """Have something go wrong from now on.

        Args:
            effect: What.
            verb: Regular expression of whole verbs; `create|patch|delete` are the operator's writes.
            resource: Regular expression of whole resources, `prunejobs/status`.
            path: Regular expression found in path and query.
            times: How often.
            skip: How many such requests pass first.
        """

        def applies(request: Request) -> bool:
            return bool(
                re.fullmatch(verb, request.verb)
                and re.fullmatch(resource, request.resource)
                and re.search(path, f"{request.path}?{request.query}")
            )

        fault = Fault(effect, applies, times, skip)
        self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Let everything pass from now on."""
        self._faults.clear()

    def count(self, verb: str, resource: str) -> int:
        """Return how often something was asked for."""
        return sum((request.verb, request.resource) == (verb, resource) for request in self.requests)

    def drop_watches(self) -> int:
        """End every watch in the middle, as a load balancer does, and return how many there were."""
        watches = list(self._watches)
        for transport in watches:
            self._loop.call_soon_threadsafe(transport.abort)
        return len(watches)

    def kubeconfig(self, path: Path, token: str) -> Path:
        """Write a kubeconfig that goes through the proxy."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "user"}}],
            "current-context": "proxy",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    async def _start(self) -> None:
        context = ssl.create_default_context(cafile=str(self._ca_file))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0), trust_env=False, auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )  # fmt: skip
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        # The handlers first: the server would wait for those that wait for the API server.
        for task in self._handlers:
            task.cancel()
        if self._handlers:
            await asyncio.wait(self._handlers, timeout=_START_SECONDS / 2)
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            return await self._answer(incoming)
        finally:
            self._handlers.discard(task)

    async def _answer(self, incoming: web.Request) -> web.StreamResponse:
        request = Request.of(incoming.method, incoming.path, incoming.query_string)
        self.requests.append(request)
        fault = next((item for item in self._faults if item.claims(request)), None)
        effect = fault.effect if fault else None
        body = await incoming.read()
        match effect:
            case Refuse(status, message, retry_after):
                return _status(status, message, {"Retry-After": str(retry_after)} if retry_after else {})
            case Answer(text):
                return web.Response(text=text, content_type="application/json")
            case Gone() if request.verb != "watch":
                return _status(410, "the continue token is too old", {}, reason="Expired")
            case Gone():
                error = {"type": "ERROR", "object": _status_object(410, "too old resource version", "Expired")}
                return web.Response(text=json.dumps(error) + "\n", content_type="application/json")
            case Slow(seconds):
                await asyncio.sleep(seconds)
            case First(happens):
                await asyncio.to_thread(happens)
        if request.verb == "watch" and isinstance(effect, Cut):
            return _hang_up(incoming, "cut by the test")
        if request.verb == "watch":
            return await self._watch(incoming, body)
        try:
            status, headers, answer = await self._ask(incoming, body)
        except aiohttp.ClientError as error:
            return _hang_up(incoming, f"{type(error).__name__}")
        if request.write:
            self.writes.append(Write(request, hashlib.sha256(body).hexdigest()[:12], status))
        match effect:
            case Cut():
                return _hang_up(incoming, "cut by the test")
            case Then(happens):
                await asyncio.to_thread(happens)
            case Kill(answered=False):
                self.victim()
                return _hang_up(incoming, "killed by the test")
        response = web.Response(status=status, headers=headers, body=answer)
        if isinstance(effect, Kill):
            with contextlib.suppress(ConnectionError):
                await response.prepare(incoming)
                await response.write_eof()
            self.victim()
        return response

    async def _ask(self, incoming: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        async with self._upstream(incoming, body) as response:
            return response.status, _forwarded(response.headers), await response.read()

    async def _watch(self, incoming: web.Request, body: bytes) -> web.StreamResponse:
        transport = incoming.transport
        if transport is None:
            return _hang_up(incoming, "gone already")
        self._watches.add(transport)
        try:
            async with self._upstream(incoming, body) as response:
                outgoing = web.StreamResponse(status=response.status, headers=_forwarded(response.headers))
                await outgoing.prepare(incoming)
                async for chunk in response.content.iter_any():
                    await outgoing.write(chunk)
                await outgoing.write_eof()
                return outgoing
        except (aiohttp.ClientError, ConnectionError) as error:
            return _hang_up(incoming, f"{type(error).__name__}")
        finally:
            self._watches.discard(transport)

    @contextlib.asynccontextmanager
    async def _upstream(self, incoming: web.Request, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {key: value for key, value in incoming.headers.items() if key.lower() not in _HOP_BY_HOP}
        async with self._session.request(
            incoming.method, URL(f"{self._server}{incoming.raw_path}", encoded=True), headers=headers,
            data=body or None, allow_redirects=False,
        ) as response:  # fmt: skip
            yield response


@functools.cache
def _shared_loop() -> asyncio.AbstractEventLoop:
    """Start the one thread; it goes on until the process ends, since closed connections take a while to be gone."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="fault-proxies", daemon=True).start()
    return loop


def _forwarded(headers: Any) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.lower() not in _HOP_BY_HOP}


def _hang_up(incoming: web.Request, why: str) -> web.Response:
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response(status=502, text=why)


def _status_object(status: int, message: str, reason: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "code": status}  # fmt: skip


def _status(status: int, message: str, headers: dict[str, str], reason: str = "TestFault") -> web.Response:
    return web.json_response(_status_object(status, message, reason), status=status, headers=headers)


def wait_until_struck(fault: Fault, seconds: float = 30.0) -> None:
    """Wait until a fault has struck as often as it may."""
    deadline = time.monotonic() + seconds
    while fault.struck < fault.times:
        assert time.monotonic() < deadline, f"{fault.effect} struck {fault.struck} of {fault.times} times"
        time.sleep(0.05)
