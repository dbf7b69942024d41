"""The node: registers itself, says that it lives, takes the pods that are bound to it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import platform
import random
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devcluster.node import logs
from devcluster.node.api import TRANSIENT, Api, ApiError, Json
from devcluster.node.claims import Provisioner, storage_class
from devcluster.node.container import now
from devcluster.node.guard import Guard
from devcluster.node.pod import Machine, Pod

_HEARTBEAT_SECONDS = 2.0
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_LEASE_SECONDS = 40
_END_SECONDS = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """One node."""

    name: str
    gpus: int
    cpus: int = 8
    memory: str = "16Gi"
    directory: Path
    """Volumes of claims; `pods/` with logs beside it."""
    machine: Machine


class Node:
    """Runs until cancelled, then ends every process it started."""

    def __init__(self, api: Api, options: NodeOptions, guard: Guard) -> None:
        self._api, self._options, self._guard = api, options, guard
        self._pods: dict[str, Pod] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._node_uid = ""
        self._port = 0
        self._addresses = _addresses()

    async def run(self) -> None:
        """Serve the cluster."""
        try:
            async with logs.serving(self._log, self._options.directory / "certificates" / self._options.name) as port:
                self._port = port
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._heartbeat(), name="heartbeat")
                    group.create_task(self._follow_pods(), name="pods")
                    group.create_task(
                        Provisioner(self._api, self._options.directory / "volumes").run(), name="provisioner"
                    )
        finally:
            ending = [pod.end(_END_SECONDS, delete=False) for pod in self._pods.values()]
            for task in self._ending:
                task.cancel()
            await asyncio.gather(*ending, *self._ending, return_exceptions=True)

    async def _heartbeat(self) -> None:
        registered = False
        while True:
            started = time.monotonic()
            try:
                if not registered:
                    await self._api.ensure("/apis/storage.k8s.io/v1/storageclasses", storage_class())
                    registered = True
                await self._beat()
            except TRANSIENT as error:
                _log.warning("heartbeat: %s", error)
            pause = _HEARTBEAT_SECONDS if self._node_uid else _HEARTBEAT_SECONDS / 10
            await asyncio.sleep(max(pause - (time.monotonic() - started), 0.1))

    async def _beat(self) -> None:
        """Say that the node lives. A node that was deleted is made again; its pods are gone with it."""
        name = self._options.name
        try:
            found = await self._api.get(f"/api/v1/nodes/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            self._lose_everything()
            found = await self._api.create("/api/v1/nodes", self._node())
        if self._node_uid and found["metadata"]["uid"] != self._node_uid:
            self._lose_everything()
        self._node_uid = str(found["metadata"]["uid"])
        await self._api.patch(f"/api/v1/nodes/{name}/status", {"status": self._status(found)})
        renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = {"holderIdentity": name, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": renewed}
        try:
            await self._api.patch(f"{_LEASES}/{name}", {"spec": lease})
        except ApiError as error:
            if error.status != 404:
                raise
            metadata = {"name": name, "namespace": "kube-node-lease"}
            document = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": lease}
            await self._api.ensure(_LEASES, document)

    def _node(self) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self._options.name,
                "labels": {
                    "kubernetes.io/hostname": self._options.name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "arm64" if platform.machine() == "aarch64" else "amd64",
                    "coppice.dev/process-node": "true",
                },
            },
        }

    def _status(self, found: Json) -> Json:
        options = self._options
        resources = {
            "cpu": str(options.cpus), "memory": options.memory, "pods": "110", "ephemeral-storage": "100Gi",
            "nvidia.com/gpu": str(options.gpus),
        }  # fmt: skip
        conditions = found.get("status", {}).get("conditions") or ()
        ready: Json = next((item for item in conditions if item["type"] == "Ready"), {})
        since = ready.get("lastTransitionTime") if ready.get("status") == "True" else None
        return {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": options.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
            "conditions": [
                *(item for item in conditions if item["type"] != "Ready"),
                {
                    "type": "Ready", "status": "True", "reason": "ProcessNodeReady",
                    "message": "runs pods as local processes",
                    "lastHeartbeatTime": now(), "lastTransitionTime": since or now(),
                },
            ],
        }  # fmt: skip

    def _lose_everything(self) -> None:
        """End every pod and remove its object, as the garbage collection of a node's pods does."""
        if self._pods:
            _log.warning("the node object is gone: ending its pods")
        for uid in list(self._pods):
            self._end(uid, 0.0, delete=True)

    async def _follow_pods(self) -> None:
        async for event, item in self._api.watch("/api/v1/pods", f"fieldSelector=spec.nodeName={self._options.name}"):
            if event == "SYNC":
                present = {pod["metadata"]["uid"] for pod in item["items"]}
                for pod in item["items"]:
                    self._see(pod)
                for uid in [uid for uid in self._pods if uid not in present]:
                    self._end(uid, 0.0, delete=False)
            elif event == "DELETED":
                self._forget(item)
                self._end(item["metadata"]["uid"], 0.0, delete=False)
            else:
                self._see(item)

    def _see(self, pod: Json) -> None:
        metadata, uid = pod["metadata"], pod["metadata"]["uid"]
        ending = any(task.get_name() == uid for task in self._ending)
        if "deletionTimestamp" in metadata:
            if uid in self._pods:
                self._end(uid, float(metadata.get("deletionGracePeriodSeconds") or 0), delete=True)
            elif not ending:
                # Bound and deleted before it was ever started, or left by an earlier life of this node.
                path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
                body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
                self._start(self._api.delete(path, body | {"preconditions": {"uid": uid}}), uid)
            return
        over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if uid in self._pods or ending or over:
            return
        self._names[metadata["namespace"], metadata["name"]] = uid
        self._pods[uid] = Pod(self._api, pod, next(self._addresses), self._options.machine, self._guard)

    def _forget(self, pod: Json) -> None:
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        if self._names.get(key) == pod["metadata"]["uid"]:
            del self._names[key]

    def _log(self, namespace: str, pod: str, container: str) -> logs.Log | None:
        """Return a container's log, of a pod that has ended too."""
        uid = self._names.get((namespace, pod))
        if uid is None:
            return None
        path = self._options.machine.directory / f"{namespace}_{pod}_{uid}" / f"{Path(container).name}.log"
        return logs.Log(path, grows=uid not in self._pods or self._pods[uid].lives(container))

    def _end(self, uid: str, grace_seconds: float, *, delete: bool) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None:
            self._start(pod.end(grace_seconds, delete=delete), uid)

    def _start(self, action: Coroutine[Any, Any, None], uid: str) -> None:
        task = asyncio.create_task(self._tolerate(action), name=uid)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    @staticmethod
    async def _tolerate(action: Coroutine[Any, Any, None]) -> None:
        """Log what the API server refuses; the next list shows the pod again."""
        try:
            await action
        except TRANSIENT as error:
            _log.warning("%s", error)


def _addresses() -> Iterator[str]:
    """Yield addresses of pods, none twice; nodes side by side start at different places of 127.0.0.0/8."""
    block, offset = random.randint(1, 254), random.randint(0, 255)
    for number in itertools.count():
        high = (offset + number // 250) % 256
        yield f"127.{(block - 1 + number // 64000) % 254 + 1}.{high}.{number % 250 + 2}"


async def serve(kubeconfig: Path, options: NodeOptions, ended: asyncio.Event) -> None:
    """Run a node until told to end."""
    guard = Guard()
    try:
        async with Api(kubeconfig) as api:
            running = asyncio.create_task(Node(api, options, guard).run(), name="node")
            waiting = asyncio.create_task(ended.wait(), name="end")
            await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if running.done():
                running.result()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    finally:
        guard.close()
