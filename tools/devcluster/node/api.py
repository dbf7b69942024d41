"""The few calls a node makes to the API server."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml

Json = dict[str, Any]
_TIMEOUT = aiohttp.ClientTimeout(total=15)
_WATCH_SECONDS = 240
_RETRY_SECONDS = 0.5
_LINE_BYTES = 4 << 20
_MERGE = "application/merge-patch+json"
_log = logging.getLogger(__name__)


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


TRANSIENT = (ApiError, aiohttp.ClientError, OSError, TimeoutError)
"""What a call may raise while the API server is away or busy."""


class Api:
    """A session with the cluster a kubeconfig names. Use with `async with`."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        cluster = document["clusters"][0]["cluster"]
        self.server = str(cluster["server"])
        self.ca_file = Path(cluster["certificate-authority"])
        self.ca_data = self.ca_file.read_text()
        self._token = str(document["users"][0]["user"]["token"])

    async def __aenter__(self) -> Api:
        self._session = aiohttp.ClientSession(
            self.server,
            headers={"Authorization": f"Bearer {self._token}"},
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(self.ca_file)), limit=0),
            timeout=_TIMEOUT,
            # A watch sends one object a line, and the reader refuses lines longer than its buffer.
            read_bufsize=_LINE_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> Json:
        """Return an object or a list."""
        return await self._call("GET", path)

    async def create(self, path: str, body: Json) -> Json:
        """POST an object."""
        return await self._call("POST", path, body)

    async def patch(self, path: str, body: Json) -> Json:
        """Merge-patch an object or its status."""
        return await self._call("PATCH", path, body, _MERGE)

    async def delete(self, path: str, body: Json | None = None) -> None:
        """DELETE; an object that is gone already, or is another by now, is as good."""
        try:
            await self._call("DELETE", path, body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def ensure(self, path: str, body: Json) -> None:
        """POST unless it exists."""
        try:
            await self.create(path, body)
        except ApiError as error:
            if error.status != 409:
                raise

    async def watch(self, path: str, selector: str) -> AsyncIterator[tuple[str, Json]]:
        """Yield (event, object) for ever, across lost connections: SYNC with a list first, then what happens.

        Args:
            path: Of a collection.
            selector: Query, such as fieldSelector=spec.nodeName=x.
        """
        while True:
            try:
                listed = await self.get(f"{path}?{selector}")
                yield "SYNC", listed
                version = listed["metadata"]["resourceVersion"]
                query = f"{selector}&watch=1&allowWatchBookmarks=true&resourceVersion={version}"
                timeout = aiohttp.ClientTimeout(total=None, sock_read=_WATCH_SECONDS + 30)
                async with self._session.get(
                    f"{path}?{query}&timeoutSeconds={_WATCH_SECONDS}", timeout=timeout
                ) as response:
                    async for line in response.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        if event["type"] != "BOOKMARK":
                            yield event["type"], event["object"]
            except (aiohttp.ClientError, TimeoutError, ApiError, json.JSONDecodeError) as error:
                _log.warning("watch of %s broke: %s", path, error)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _call(
        self, method: str, path: str, body: Json | None = None, content_type: str = "application/json"
    ) -> Json:
        async with self._session.request(
            method,
            path,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": content_type} if body is not None else None,
        ) as response:
            document = await _document(response)
            if response.status >= 400:
                raise ApiError(response.status, str(document.get("message", "")))
            return document


async def _document(response: aiohttp.ClientResponse) -> Json:
    """Return what was answered; a server that is coming up answers in plain text."""
    text = await response.text()
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        document = None
    return document if isinstance(document, dict) else {"message": text}
