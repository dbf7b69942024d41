"""One pod on the node: prepared, run, reported, removed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devcluster.processnode.api import Api, ApiError, Json
from devcluster.processnode.container import Container, now
from devcluster.processnode.rewriting import expand, rewrite
from devcluster.processnode.volumes import ConfigMissingError, Volumes, mounts, remove

UNREACHABLE_REGISTRY = "missing.invalid/"
"""Images with this prefix cannot be pulled: for tests of what an operator says then."""
TERMINATION_PATH = "/dev/termination-log"
_RETRY_SECONDS = 1.0
_PUBLISH_SECONDS = 0.05
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """What every container on the node finds."""

    directory: Path
    python_path: tuple[Path, ...]
    environment: Mapping[str, str]
    """As an image's ENV would give."""


class Pod:
    """Runs one pod.

    Args:
        api: Where the status goes.
        pod: As it was bound to the node.
        ip: The pod's own loopback address.
        machine: What containers find.
    """

    def __init__(self, api: Api, pod: Json, ip: str, machine: Machine) -> None:
        self.ip = ip
        self._api, self._pod, self._machine = api, pod, machine
        metadata, spec = pod["metadata"], pod["spec"]
        self.uid = str(metadata["uid"])
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._directory = machine.directory / f"{metadata['namespace']}_{metadata['name']}_{self.uid}"
        self._directory.mkdir(parents=True, exist_ok=True)
        policy = spec.get("restartPolicy", "Always")
        self._init = [
            Container(item, "OnFailure" if policy == "Always" else policy, ip, self._directory, self._note_change)
            for item in spec.get("initContainers") or ()
        ]
        self._containers = [
            Container(item, policy, ip, self._directory, self._note_change) for item in spec["containers"]
        ]
        self._started_at = now()
        self._changes = asyncio.Event()
        self._failure: tuple[str, str] | None = None
        self._run = asyncio.create_task(self._live(), name=f"pod-{metadata['name']}")
        self._publisher = asyncio.create_task(self._publish_changes(), name=f"status-{metadata['name']}")

    async def end(self, grace_seconds: float, *, delete: bool) -> None:
        """End the pod's processes and, when it was deleted, the object."""
        await asyncio.gather(*(item.stop(grace_seconds) for item in (*self._init, *self._containers)))
        with contextlib.suppress(TimeoutError):
            # Containers in back-off or waiting for configuration have no process that ends.
            await asyncio.wait_for(asyncio.shield(self._run), timeout=0.5)
        for task in (self._run, self._publisher):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if not delete:
            return
        with contextlib.suppress(ApiError):
            await self._publish()
        await self._api.delete(
            self._path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}, "kind": "DeleteOptions",
                         "apiVersion": "v1"},
        )  # fmt: skip
        remove(self._directory / "volumes")

    async def _live(self) -> None:
        spec = self._pod["spec"]
        deadline = spec.get("activeDeadlineSeconds")
        try:
            await asyncio.wait_for(self._all_containers(), timeout=deadline)
        except TimeoutError:
            self._failure = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
            await asyncio.gather(*(item.stop(self._grace_seconds()) for item in self._containers))
        self._note_change()

    async def _all_containers(self) -> None:
        volumes = await self._prepared()
        for item in self._init:
            await self._container(item, volumes)
            if not item.succeeded:
                self._failure = ("Error", f"init container {item.name} failed")
                return
        await asyncio.gather(*(self._container(item, volumes) for item in self._containers))

    async def _prepared(self) -> dict[str, Path]:
        volumes = Volumes(self._api, self._pod, self._directory)
        while True:
            try:
                return await volumes.prepare()
            except ConfigMissingError as error:
                for item in (*self._init, *self._containers):
                    item.wait_for("ContainerCreating", f"MountVolume.SetUp failed: {error}")
            await asyncio.sleep(_RETRY_SECONDS)

    async def _container(self, item: Container, volumes: dict[str, Path]) -> None:
        image = str(item.spec.get("image", ""))
        if image.startswith(UNREACHABLE_REGISTRY):
            item.wait_for("ErrImagePull", f'failed to pull image "{image}": the registry does not answer')
            await asyncio.sleep(2 * _RETRY_SECONDS)
            item.wait_for("ImagePullBackOff", f'Back-off pulling image "{image}"')
            await asyncio.Event().wait()
        reader = Volumes(self._api, self._pod, self._directory)
        while True:
            try:
                declared = await reader.environment(item.spec, self.ip)
                break
            except ConfigMissingError as error:
                item.wait_for("CreateContainerConfigError", str(error))
            await asyncio.sleep(_RETRY_SECONDS)
        directories = mounts(item.spec, volumes)
        temporary = directories.get("/tmp", str(self._made("tmp")))
        directories[item.spec.get("terminationMessagePath", TERMINATION_PATH)] = str(item.termination_message)
        environment = self._environment(declared, directories, temporary)
        command = [
            rewrite(expand(word, environment), directories)
            for word in (*(item.spec.get("command") or ()), *(item.spec.get("args") or ()))
        ]
        working_directory = Path(rewrite(item.spec.get("workingDir", ""), directories) or temporary)
        await item.run(command, environment, working_directory, self._grace_seconds())

    def _environment(
        self, declared: Mapping[str, str], directories: Mapping[str, str], temporary: str
    ) -> dict[str, str]:
        host, _, port = self._api.server.removeprefix("https://").partition(":")
        base = {
            # What `python` and `coppice` are in an image, they are here: those of this environment.
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "HOME": temporary,
            "TMPDIR": temporary,
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(str(item) for item in self._machine.python_path),
            "PYTHONUNBUFFERED": "1",
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "HOSTNAME": str(self._pod["metadata"]["name"]),
            **self._machine.environment,
        }
        environment = dict(base)
        for name, value in declared.items():
            environment[name] = rewrite(expand(value, environment), directories)
        return environment

    def _made(self, name: str) -> Path:
        directory = self._directory / "volumes" / f".{name}"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _grace_seconds(self) -> float:
        return float(self._pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _note_change(self) -> None:
        self._changes.set()

    async def _publish_changes(self) -> None:
        self._changes.set()
        while True:
            await self._changes.wait()
            await asyncio.sleep(_PUBLISH_SECONDS)
            self._changes.clear()
            try:
                await self._publish()
            except ApiError as error:
                if error.status == 404:
                    return
                _log.warning("status of %s: %s", self._path, error)
                self._changes.set()
                await asyncio.sleep(_RETRY_SECONDS)
            except (OSError, TimeoutError) as error:
                _log.warning("status of %s: %s", self._path, error)
                self._changes.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _publish(self) -> None:
        current = await self._api.get(self._path)
        if current["metadata"]["uid"] != self.uid:
            return
        others = [
            item
            for item in current.get("status", {}).get("conditions") or ()
            if item["type"] not in ("Initialized", "ContainersReady", "Ready")
        ]
        before = {item["type"]: item for item in current.get("status", {}).get("conditions") or ()}
        initialized = all(item.succeeded for item in self._init)
        ready = bool(self._containers) and all(item.ready for item in self._containers)
        conditions = [
            _condition(before, "Initialized", initialized),
            _condition(before, "ContainersReady", ready),
            _condition(before, "Ready", ready),
        ]
        status: Json = {
            "phase": self._phase(),
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "hostIP": "127.0.0.1",
            "startTime": current.get("status", {}).get("startTime") or self._started_at,
            "conditions": [*others, *conditions],
            "containerStatuses": [item.status() for item in self._containers],
        }
        if self._init:
            status["initContainerStatuses"] = [item.status() for item in self._init]
        if self._failure:
            status["reason"], status["message"] = self._failure
        await self._api.patch(f"{self._path}/status", {"status": status})

    def _phase(self) -> str:
        if self._failure:
            return "Failed"
        if self._containers and all(item.ended for item in self._containers):
            return "Succeeded" if all(item.succeeded for item in self._containers) else "Failed"
        started = any("running" in item.state or item.restart_count or item.ended for item in self._containers)
        return "Running" if started else "Pending"


async def report_lost(api: Api, pod: Json) -> None:
    """Say of a pod that ran when the node was lost: its processes are gone."""
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
    statuses = [
        {
            **item, "ready": False, "started": False,
            "state": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "finishedAt": now(),
                                     "startedAt": item["state"].get("running", {}).get("startedAt") or now()}},
        }
        for item in pod.get("status", {}).get("containerStatuses") or ()
    ]  # fmt: skip
    with contextlib.suppress(ApiError):
        await api.patch(
            f"{path}/status",
            {"status": {"phase": "Failed", "reason": "NodeLost", "message": "The node's process ended.",
                        "containerStatuses": statuses}},
        )  # fmt: skip


def _condition(before: Mapping[str, Json], kind: str, value: bool) -> Json:
    status = "True" if value else "False"
    previous = before.get(kind)
    since = previous["lastTransitionTime"] if previous and previous["status"] == status else now()
    return {"type": kind, "status": status, "lastTransitionTime": since}
