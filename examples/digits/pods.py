"""Which pods of a fleet may be sent to right now, kept up to date by a watch.

What a Service's endpoints are for other clients, this is for a client that goes by pod IP: on the
development cluster pods live on loopback addresses, which EndpointSlices refuse.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio import client, config

LOGGER = logging.getLogger(__name__)
NAME_LABEL = "app.kubernetes.io/name"
PORT_NAME = "http"
WATCH_SECONDS = 300
"""The server ends a watch after this; a new list follows, which mends whatever was missed."""
RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Endpoint:
    """One pod that may be sent to."""

    pod: str
    url: str


def endpoint_of(pod: dict[str, Any]) -> Endpoint | None:
    """Return where a pod is reached; None unless it is Ready, has an address and is not on its way out."""
    metadata, status = pod["metadata"], pod.get("status", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
    port = next(
        (
            port["containerPort"]
            for container in pod["spec"]["containers"]
            for port in container.get("ports") or ()
            if port.get("name") == PORT_NAME
        ),
        None,
    )
    if not ready or "deletionTimestamp" in metadata or not status.get("podIP") or port is None:
        return None
    return Endpoint(metadata["name"], f"http://{status['podIP']}:{port}")


class Fleet:
    """The endpoints of every Deployment of a fleet, by the Deployment's name.

    Args:
        namespace: Where the fleet lives.
        selector: Label selector of its pods; each carries its Deployment's name in app.kubernetes.io/name.
        lag_seconds: For how long a pod is still sent to after it has left, as through a proxy that hears of it late.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        namespace: str,
        selector: str,
        *,
        lag_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._namespace = namespace
        self._selector = selector
        self._lag_seconds = lag_seconds
        self._clock = clock
        self._endpoints: dict[str, dict[str, Endpoint]] = defaultdict(dict)
        self._left: dict[str, float] = {}
        """When a pod is sent to no more, by its name."""
        self._turns: dict[str, int] = defaultdict(int)

    @property
    def deployments(self) -> tuple[str, ...]:
        """Every Deployment that has had a Ready pod so far."""
        return tuple(self._endpoints)

    def next_endpoint(self, deployment: str) -> Endpoint | None:
        """Return the Deployment's endpoints in turn; None when it has none, which a client would feel too."""
        known, now = self._endpoints[deployment], self._clock()
        for pod in [pod for pod in known if self._left.get(pod, math.inf) <= now]:
            del known[pod], self._left[pod]
        if not known:
            return None
        self._turns[deployment] += 1
        return tuple(known.values())[self._turns[deployment] % len(known)]

    def see(self, pod: dict[str, Any]) -> None:
        """Take in a pod as the API shows it."""
        metadata = pod["metadata"]
        deployment = metadata.get("labels", {}).get(NAME_LABEL, metadata["name"])
        endpoint = endpoint_of(pod)
        if endpoint is None:
            self.forget(pod)
            return
        self._endpoints[deployment][endpoint.pod] = endpoint
        self._left.pop(endpoint.pod, None)

    def forget(self, pod: dict[str, Any]) -> None:
        """Take in that a pod is not to be sent to any more, or gone."""
        self._leave(pod["metadata"]["name"])

    def replace(self, pods: list[dict[str, Any]]) -> None:
        """Take in a whole list: what is not in it is gone."""
        present = {pod["metadata"]["name"] for pod in pods}
        for endpoints in self._endpoints.values():
            for name in endpoints.keys() - present:
                self._leave(name)
        for pod in pods:
            self.see(pod)

    def _leave(self, name: str) -> None:
        if any(name in endpoints for endpoints in self._endpoints.values()):
            self._left.setdefault(name, self._clock() + self._lag_seconds)

    async def watch(self, kubeconfig: str | None = None) -> None:
        """List and watch until cancelled; an API server that is away leaves the endpoints as they were."""
        settings = client.Configuration()
        # The client's configuration module has no annotations.
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=kubeconfig, client_configuration=settings
        )
        async with client.ApiClient(settings) as api_client:
            pods = client.CoreV1Api(api_client)
            while True:
                try:
                    await self._list_and_watch(pods)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    LOGGER.warning("watching pods: %s: %s", type(error).__name__, error)
                    await asyncio.sleep(RETRY_SECONDS)

    async def _list_and_watch(self, pods: Any) -> None:
        response = await pods.list_namespaced_pod_without_preload_content(
            self._namespace, label_selector=self._selector, _request_timeout=10
        )
        # The raw call leaves an HTTP error to us.
        response.raise_for_status()
        listed = await response.json()
        self.replace(listed["items"])
        stream = await pods.list_namespaced_pod_without_preload_content(
            self._namespace,
            label_selector=self._selector,
            resource_version=listed["metadata"]["resourceVersion"],
            watch=True,
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=WATCH_SECONDS + 10,
        )
        stream.raise_for_status()
        try:
            async for line in stream.content:
                event = json.loads(line)
                match event["type"]:
                    case "ADDED" | "MODIFIED":
                        self.see(event["object"])
                    case "DELETED":
                        self.forget(event["object"])
                    case _:
                        # 410 Gone and its like: list again.
                        LOGGER.info("watch ended: %s", event["object"].get("message", event["type"]))
                        return
        finally:
            stream.close()
