"""The node: registers itself, says that it lives, takes the pods that are bound to it, makes volumes for claims."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import platform
import random
import shutil
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devcluster.processnode.api import Api, ApiError, Json
from devcluster.processnode.container import now
from devcluster.processnode.pod import Machine, Pod, report_lost

STORAGE_CLASS = "standard"
PROVISIONER = "devcluster.invalid/directory"
_LABEL = "devcluster.invalid/provisioned"
_HEARTBEAT_SECONDS = 2.0
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
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

    def __init__(self, api: Api, options: NodeOptions) -> None:
        self._api, self._options = api, options
        self._pods: dict[str, Pod] = {}
        self._ending: set[asyncio.Task[None]] = set()
        # Clusters side by side choose different blocks of 127.0.0.0/8 with 63 to 1 odds, and ports differ besides.
        block, offset = random.randint(1, 254), random.randint(0, 60000)
        self._addresses = (
            f"127.{block}.{number // 250 % 256}.{number % 250 + 2}" for number in itertools.count(offset)
        )

    async def run(self) -> None:
        """Serve the cluster."""
        await self._register()
        try:
            await asyncio.gather(self._heartbeat(), self._follow_pods(), self._provision())
        finally:
            ending = [pod.end(1.0, delete=False) for pod in self._pods.values()]
            await asyncio.gather(*ending, *self._ending, return_exceptions=True)

    async def _register(self) -> None:
        await self._api.ensure("/api/v1/nodes", self._node())
        await self._api.ensure(
            "/apis/storage.k8s.io/v1/storageclasses",
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": STORAGE_CLASS,
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                },
                "provisioner": PROVISIONER,
                "volumeBindingMode": "Immediate",
                "reclaimPolicy": "Delete",
            },
        )
        await self._beat()

    def _node(self) -> Json:
        options = self._options
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": options.name,
                "labels": {
                    "kubernetes.io/hostname": options.name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "arm64" if platform.machine() == "aarch64" else "amd64",
                    "devcluster.invalid/process-node": "true",
                },
            },
        }

    async def _beat(self) -> None:
        options = self._options
        resources = {
            "cpu": str(options.cpus), "memory": options.memory, "pods": "110", "ephemeral-storage": "100Gi",
            "nvidia.com/gpu": str(options.gpus),
        }  # fmt: skip
        # Read first: a node that was deleted has to be made again, and its pods are gone with it.
        try:
            found = await self._api.get(f"/api/v1/nodes/{options.name}")
        except ApiError as error:
            if error.status != 404:
                raise
            await self._lose_everything()
            await self._register()
            return
        ready: Json = next(
            (item for item in found.get("status", {}).get("conditions") or () if item["type"] == "Ready"), {}
        )
        since = ready.get("lastTransitionTime") if ready.get("status") == "True" else None
        await self._api.patch(
            f"/api/v1/nodes/{options.name}/status",
            {
                "status": {
                    "capacity": resources,
                    "allocatable": resources,
                    "addresses": [
                        {"type": "InternalIP", "address": "127.0.0.1"},
                        {"type": "Hostname", "address": options.name},
                    ],
                    "conditions": [
                        {
                            "type": "Ready", "status": "True", "reason": "ProcessNodeReady",
                            "message": "runs pods as local processes",
                            "lastHeartbeatTime": now(), "lastTransitionTime": since or now(),
                        }
                    ],
                }
            },
        )  # fmt: skip
        renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = {"holderIdentity": options.name, "leaseDurationSeconds": 40, "renewTime": renewed}
        await self._api.ensure(
            _LEASES,
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": options.name, "namespace": "kube-node-lease"},
                "spec": lease,
            },
        )
        await self._api.patch(f"{_LEASES}/{options.name}", {"spec": lease})

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            await self._tolerate(self._beat())

    async def _lose_everything(self) -> None:
        _log.warning("the node object is gone: ending its pods")
        pods, self._pods = list(self._pods.values()), {}
        await asyncio.gather(*(pod.end(0.0, delete=False) for pod in pods))

    async def _follow_pods(self) -> None:
        async for event, item in self._api.watch("/api/v1/pods", f"fieldSelector=spec.nodeName={self._options.name}"):
            if event == "SYNC":
                present = {pod["metadata"]["uid"] for pod in item["items"]}
                for pod in item["items"]:
                    await self._see(pod)
                for uid in [uid for uid in self._pods if uid not in present]:
                    self._end(uid, 0.0, delete=False)
            elif event == "DELETED":
                self._end(item["metadata"]["uid"], 0.0, delete=False)
            else:
                await self._see(item)

    async def _see(self, pod: Json) -> None:
        metadata, uid = pod["metadata"], pod["metadata"]["uid"]
        if "deletionTimestamp" in metadata:
            if uid in self._pods:
                self._end(uid, float(metadata.get("deletionGracePeriodSeconds") or 0), delete=True)
            elif not any(task.get_name() == uid for task in self._ending):
                # Bound and deleted before it was ever started.
                path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
                body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
                await self._tolerate(self._api.delete(path, body))
            return
        phase = pod.get("status", {}).get("phase", "Pending")
        if uid in self._pods or phase in ("Succeeded", "Failed"):
            return
        if phase == "Running":
            await report_lost(self._api, pod)
            return
        self._pods[uid] = Pod(self._api, pod, next(self._addresses), self._options.machine)

    def _end(self, uid: str, grace_seconds: float, *, delete: bool) -> None:
        pod = self._pods.pop(uid, None)
        if pod is None:
            return
        task = asyncio.create_task(self._tolerate(pod.end(grace_seconds, delete=delete)), name=uid)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _provision(self) -> None:
        """Make a volume for each claim of our class, and remove those that were released."""
        async for event, item in self._api.watch("/api/v1/persistentvolumeclaims", ""):
            for claim in item["items"] if event == "SYNC" else [item]:
                if event != "DELETED" and not claim["spec"].get("volumeName"):
                    await self._tolerate(self._volume_for(claim))
            if event == "DELETED":
                await self._tolerate(self._reclaim(item))

    async def _volume_for(self, claim: Json) -> None:
        spec, metadata = claim["spec"], claim["metadata"]
        if spec.get("storageClassName") != STORAGE_CLASS:
            return
        name = f"pvc-{metadata['uid']}"
        directory = self._options.directory / "volumes" / f"{metadata['namespace']}-{metadata['name']}-{name[-8:]}"
        directory.mkdir(parents=True, exist_ok=True)
        await self._api.ensure(
            "/api/v1/persistentvolumes",
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": name, "labels": {_LABEL: "true"}},
                "spec": {
                    "capacity": spec["resources"]["requests"],
                    "accessModes": spec["accessModes"],
                    "storageClassName": STORAGE_CLASS,
                    "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": str(directory), "type": "DirectoryOrCreate"},
                    "claimRef": {
                        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": metadata["uid"],
                        "namespace": metadata["namespace"], "name": metadata["name"],
                    },
                },
            },
        )  # fmt: skip

    async def _reclaim(self, claim: Json) -> None:
        name = f"pvc-{claim['metadata']['uid']}"
        volume = await self._api.get(f"/api/v1/persistentvolumes/{name}")
        await self._api.delete(f"/api/v1/persistentvolumes/{name}")
        shutil.rmtree(volume["spec"]["hostPath"]["path"], ignore_errors=True)

    @staticmethod
    async def _tolerate(action: Coroutine[Any, Any, None]) -> None:
        """Log what the API server refuses; the next event or beat tries again."""
        try:
            await action
        except (ApiError, OSError, TimeoutError) as error:
            _log.warning("%s", error)


async def serve(kubeconfig: Path, options: NodeOptions, ended: asyncio.Event) -> None:
    """Run a node until told to end."""
    async with Api(kubeconfig) as api:
        running = asyncio.create_task(Node(api, options).run(), name="node")
        waiting = asyncio.create_task(ended.wait(), name="end")
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        running.cancel()
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
