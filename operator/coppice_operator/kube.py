"""Requests to the API server: aiohttp with Kopf's credentials, and no client library.

Objects stay the JSON they are: generated models cost more CPU than the request and drop fields they do not know, and
the package that has them costs 25 MiB of memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import kopf
from prometheus_client import Counter
from yarl import URL

from coppice_api.constants import FIELD_MANAGER
from coppice_operator import jsontext
from coppice_operator.login import LoginError, log_in
from coppice_operator.plan import JsonObject

TIMEOUT_SECONDS = 15.0
LIST_LIMIT = 50
"""Objects a page: what it takes to read one is the most that memory rises by at a start."""
WATCH_SECONDS = 60
"""A watch ends after this long, and goes on in another: a server that says nothing is noticed shortly after."""
MAX_EVENT_BYTES = 8 << 20
"""No object that etcd holds is as long."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_PLURALS = {
    "PruneJob": "prunejobs",
    "ModelRollout": "modelrollouts",
    "Job": "jobs",
    "Pod": "pods",
    "Service": "services",
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "InferenceService": "inferenceservices",
    "Event": "events",
    "Lease": "leases",
    "Secret": "secrets",
}


class KubeError(Exception):
    """The API server refused, or did not answer (status 0).

    Args:
        status: HTTP status.
        message: For the log.
        said: The API server's own words; the message where there are none.
    """

    def __init__(self, status: int, message: str, said: str = "") -> None:
        super().__init__(f"{status or 'no answer'}: {message}")
        self.status, self.said = status, said or message


class FencedError(KubeError):
    """Nothing was sent: this replica may not write, or not any more."""


class Kube:
    """One session. Use with `async with`.

    Args:
        requests: Counts requests by verb and code; None counts nothing.
        login: Says which cluster, and who we are; asked again when the API server does not know us any more.
        timeout_seconds: Of one request.
        fence: Asked right before each write for how many seconds writing is allowed; the write is given up then.
        far: Whether long answers are worth compressing. Beside the API server they are not: of what it spends on
            lists of 10,000 PruneJobs and their Jobs, compression is nearly half.
    """

    def __init__(
        self,
        requests: Counter | None = None,
        *,
        login: Callable[[], kopf.ConnectionInfo] = log_in,
        timeout_seconds: float = TIMEOUT_SECONDS,
        fence: Callable[[], float] | None = None,
        far: bool = False,
    ) -> None:
        self._requests, self._login = requests, login
        self._timeout_seconds, self._fence = timeout_seconds, fence
        self._encodings = "gzip" if far else "identity"

    async def __aenter__(self) -> Kube:
        """Find the cluster.

        Raises:
            KubeError: If there is none.
        """
        try:
            info = self._login()
            context = info.as_ssl_context()
        except LoginError as error:
            raise KubeError(0, str(error)) from error
        except (OSError, ValueError) as error:
            raise KubeError(0, f"the cluster's certificates cannot be read: {error}") from error
        self._server, self._authorization = info.server.rstrip("/"), info.as_http_headers()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": self._encodings,
                "User-Agent": "coppice-operator",
            },
            proxy=info.proxy_url,
            # Otherwise every request looks for a proxy in a thread.
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        await self._session.close()

    def elsewhere(self, login: Callable[[], kopf.ConnectionInfo], timeout_seconds: float) -> Kube:
        """Return a session with another cluster, not yet open, that counts with this one and is fenced as it is."""
        return Kube(self._requests, login=login, timeout_seconds=timeout_seconds, fence=self._fence, far=True)

    async def get(self, path: str, **query: str) -> JsonObject:
        """Return an object or a list."""
        return await self._request("GET", path, query)

    async def pages(self, path: str, **query: str) -> AsyncIterator[JsonObject]:
        """Yield a collection as lists of at most LIST_LIMIT; all show the moment that the first one names."""
        token = ""
        while True:
            page = await self.get(path, limit=str(LIST_LIMIT), **({"continue": token} if token else {}), **query)
            yield page
            token = page.get("metadata", {}).get("continue") or ""
            if not token:
                return

    async def list_all(self, path: str, **query: str) -> list[JsonObject]:
        """Return every object of a collection."""
        return [item async for page in self.pages(path, **query) for item in page.get("items") or ()]

    async def watch(self, path: str, version: str) -> AsyncIterator[JsonObject]:
        """Yield what happens to a collection, bookmarks too, until the server ends the watch as it was asked to.

        Args:
            path: Of the collection.
            version: Its resourceVersion from which on.

        Raises:
            KubeError: If it cannot begin or go on: 410 asks for a new list.
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        url = URL(f"{self._server}{path}?{urlencode({**query, 'resourceVersion': version})}", encoded=True)
        silence = aiohttp.ClientTimeout(
            total=None, sock_connect=self._timeout_seconds, sock_read=WATCH_SECONDS + self._timeout_seconds
        )
        try:
            async with self._session.get(
                url, headers=self._authorization, allow_redirects=False, timeout=silence
            ) as response:
                self._count("GET", response.status)
                if response.status >= 300:
                    raise KubeError(response.status, f"WATCH {path}")
                async for line in _lines(response.content):
                    yield _event(line, path)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(0, f"WATCH {path}: {type(error).__name__}: {error}") from error

    async def create(self, path: str, body: JsonObject) -> JsonObject:
        """POST an object."""
        return await self._request("POST", path, {"fieldManager": FIELD_MANAGER}, body)

    async def replace(self, path: str, body: JsonObject) -> JsonObject:
        """PUT an object; its resourceVersion is the precondition."""
        return await self._request("PUT", path, {"fieldManager": FIELD_MANAGER}, body)

    async def merge(self, path: str, body: JsonObject) -> JsonObject:
        """Merge-patch an object or a subresource."""
        return await self._request("PATCH", path, {"fieldManager": FIELD_MANAGER}, body, MERGE_PATCH)

    async def json_patch(self, path: str, body: list[JsonObject]) -> JsonObject:
        """Patch an object by RFC 6902."""
        return await self._request("PATCH", path, {"fieldManager": FIELD_MANAGER}, body, JSON_PATCH)

    async def apply(self, path: str, body: JsonObject) -> JsonObject:
        """Server-side apply; what we apply is ours, whoever had it before."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._request("PATCH", path, query, body, APPLY_PATCH)

    async def delete(self, path: str, body: JsonObject) -> JsonObject:
        """DELETE an object."""
        return await self._request("DELETE", path, {}, body)

    async def _request(
        self, method: str, path: str, query: dict[str, str], body: Any = None, content_type: str = "application/json"
    ) -> JsonObject:
        url = URL(self._server + path + (f"?{urlencode(query)}" if query else ""), encoded=True)
        data = None if body is None else jsontext.dumps(body)
        known = self._authorization
        status, text = await self._send(method, url, path, data, content_type)
        if status == 401 and self._known_anew(known):
            status, text = await self._send(method, url, path, data, content_type)
        try:
            document = jsontext.loads(text)
        except ValueError as error:
            raise KubeError(status, f"{method} {path}: not JSON") from error
        if status >= 400:
            said = str(document.get("message", ""))
            raise KubeError(status, f"{method} {path}: {said}", said)
        return dict(document)

    async def _send(self, method: str, url: URL, path: str, data: bytes | None, content_type: str) -> tuple[int, bytes]:
        headers = {**self._authorization, "Content-Type": content_type}
        # After the last await before sending: what a paused process wakes up with is this line.
        timeout_seconds = self._timeout_seconds if method == "GET" else self._seconds_to_write(method, path)
        try:
            async with self._session.request(
                method, url, headers=headers, data=data, allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            ) as response:  # fmt: skip
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(method, 0)
            raise KubeError(0, f"{method} {path}: {type(error).__name__}: {error}") from error
        self._count(method, response.status)
        return response.status, text

    def _known_anew(self, before: dict[str, str]) -> bool:
        """Return whether there are other credentials than before: a service account's token is replaced on disk."""
        if self._authorization == before:
            # What cannot be read right now is as good as unchanged.
            with contextlib.suppress(LoginError):
                self._authorization = self._login().as_http_headers()
        return self._authorization != before

    def _seconds_to_write(self, method: str, path: str) -> float:
        left = self._timeout_seconds if self._fence is None else self._fence()
        if left <= 0:
            raise FencedError(0, f"{method} {path}: not sent, another replica may be leading")
        return min(self._timeout_seconds, left)

    def _count(self, method: str, status: int) -> None:
        if self._requests is not None:
            self._requests.labels(method, str(status)).inc()


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    buffer = bytearray()
    async for chunk in stream.iter_any():
        buffer += chunk
        *lines, rest = buffer.split(b"\n") if b"\n" in chunk else (buffer,)
        for line in lines:
            yield bytes(line)
        buffer = bytearray(rest) if lines else buffer
        if len(buffer) > MAX_EVENT_BYTES:
            raise aiohttp.ClientPayloadError(f"an event has more than {MAX_EVENT_BYTES} bytes")


def _event(line: bytes, path: str) -> JsonObject:
    try:
        event = jsontext.loads(line)
        if event["type"] == "ERROR":
            raise KubeError(int(event["object"].get("code") or 0), f"WATCH {path}: {event['object'].get('message')}")
        if event["object"]["metadata"]["resourceVersion"]:
            return dict(event)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KubeError(0, f"WATCH {path}: no event") from error
    raise KubeError(0, f"WATCH {path}: no event")


def collection_path(api_version: str, kind: str, namespace: str | None) -> str:
    """Return the path of a collection; of all namespaces when none is named."""
    root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{_PLURALS[kind]}"


def object_path(api_version: str, kind: str, namespace: str, name: str) -> str:
    """Return the path of an object."""
    return f"{collection_path(api_version, kind, namespace)}/{name}"
