"""Requests to the API server: the client's session and credentials, none of its generated models.

Objects stay the JSON they are: the models cost more CPU than the request, and drop fields they do not know.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config
from prometheus_client import Counter

from coppice_api.constants import FIELD_MANAGER
from coppice_operator.plan import JsonObject

TIMEOUT_SECONDS = 15.0
LIST_LIMIT = 500
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
    "Event": "events",
    "Lease": "leases",
    "Secret": "secrets",
}


class KubeError(Exception):
    """The API server refused, or did not answer (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status or 'no answer'}: {message}")
        self.status = status


class FencedError(KubeError):
    """Nothing was sent: this replica may not write, or not any more."""


class Kube:
    """One session. Use with `async with`.

    Args:
        requests: Counts requests by verb and code; None counts nothing.
        kubeconfig: Which cluster; None looks for it.
        timeout_seconds: Of one request.
        fence: Asked right before each write for how many seconds writing is allowed; the write is given up then.
    """

    def __init__(
        self,
        requests: Counter | None = None,
        kubeconfig: Path | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        fence: Callable[[], float] | None = None,
    ) -> None:
        self._requests, self._kubeconfig = requests, kubeconfig
        self._timeout_seconds, self._fence = timeout_seconds, fence

    async def __aenter__(self) -> Kube:
        """Find the cluster: in-cluster credentials, else KUBECONFIG, else ~/.kube/config.

        Raises:
            KubeError: If there is none.
        """
        settings = client.Configuration()
        # Without this every request looks for a proxy in a thread.
        settings.client_session_kwargs = {"trust_env": False}
        try:
            if self._kubeconfig:
                raise config.ConfigException("a kubeconfig is named")
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except config.ConfigException:
            file = str(self._kubeconfig) if self._kubeconfig else None
            try:
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=file, client_configuration=settings
                )
            except (config.ConfigException, OSError) as error:
                raise KubeError(
                    0, f"no cluster is configured ({error}): run in a pod with a service account, or set KUBECONFIG"
                ) from error
        self._client = client.ApiClient(settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        await self._client.close()  # type: ignore[no-untyped-call]

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
        headers = {"Accept": "application/json", "Content-Type": content_type}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        # After the last await before sending: what a paused process wakes up with is this line.
        timeout_seconds = self._timeout_seconds if method == "GET" else self._seconds_to_write(method, path)
        try:
            response = await self._client.rest_client.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=timeout_seconds
            )
            text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(method, 0)
            raise KubeError(0, f"{method} {path}: {type(error).__name__}: {error}") from error
        self._count(method, response.status)
        try:
            document = json.loads(text)
        except ValueError as error:
            raise KubeError(response.status, f"{method} {path}: not JSON") from error
        if response.status >= 400:
            raise KubeError(response.status, f"{method} {path}: {document.get('message', '')}")
        return dict(document)

    def _seconds_to_write(self, method: str, path: str) -> float:
        left = self._timeout_seconds if self._fence is None else self._fence()
        if left <= 0:
            raise FencedError(0, f"{method} {path}: not sent, another replica may be leading")
        return min(self._timeout_seconds, left)

    def _count(self, method: str, status: int) -> None:
        if self._requests is not None:
            self._requests.labels(method, str(status)).inc()


def collection_path(api_version: str, kind: str, namespace: str | None) -> str:
    """Return the path of a collection; of all namespaces when none is named."""
    root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{_PLURALS[kind]}"


def object_path(api_version: str, kind: str, namespace: str, name: str) -> str:
    """Return the path of an object."""
    return f"{collection_path(api_version, kind, namespace)}/{name}"
