"""One pod on the node: prepared, run, reported, removed."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from devcluster.node.api import TRANSIENT, Api, ApiError, Json
from devcluster.node.container import Container, now
from devcluster.node.guard import Guard
from devcluster.node.names import Names, NoSuchHostError
from devcluster.node.probes import Program
from devcluster.node.rewriting import expand, rewrite
from devcluster.node.volumes import (
    SERVICE_ACCOUNT_PATH,
    ConfigMissingError,
    Volumes,
    kubeconfig,
    mounts,
    remove,
)

UNREACHABLE_REGISTRY = "missing.invalid/"
"""Images with this prefix cannot be pulled: for tests of what an operator says then."""
TERMINATION_PATH = "/dev/termination-log"
_OURS = ("Initialized", "ContainersReady", "Ready")
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
        pod: As it was bound to the node; with a status when an earlier life of the node ran it.
        ip: The pod's own loopback address.
        machine: What containers find.
        guard: Told of process groups.
    """

    def __init__(self, api: Api, pod: Json, ip: str, machine: Machine, guard: Guard) -> None:
        self.ip = ip
        self._api, self._pod, self._machine = api, pod, machine
        metadata, spec = pod["metadata"], pod["spec"]
        self.uid = str(metadata["uid"])
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._directory = machine.directory / f"{metadata['namespace']}_{metadata['name']}_{self.uid}"
        self._directory.mkdir(parents=True, exist_ok=True)
        policy = spec.get("restartPolicy", "Always")
        self._init = [
            Container(item, "Never" if policy == "Never" else "OnFailure", ip, self._directory, guard, self._changed)
            for item in spec.get("initContainers") or ()
        ]
        self._containers = [
            Container(item, policy, ip, self._directory, guard, self._changed) for item in spec["containers"]
        ]
        status = pod.get("status", {})
        known = {item["name"]: item for item in status.get("containerStatuses") or ()}
        for container in self._containers:
            if container.name in known:
                container.resume(known[container.name])
        self._started_at = str(status.get("startTime") or now())
        self._changes = asyncio.Event()
        self._failure: tuple[str, str] | None = None
        self._run = asyncio.create_task(self._live(), name=f"pod-{metadata['name']}")
        self._publisher = asyncio.create_task(self._publish_changes(), name=f"status-{metadata['name']}")

    def lives(self, container: str) -> bool:
        """Return whether a container has not ended for good."""
        return any(item.name == container and not item.ended for item in (*self._init, *self._containers))

    async def end(self, grace_seconds: float, *, delete: bool) -> None:
        """End the pod's processes and, when it was deleted, the object."""
        await asyncio.gather(*(item.stop(grace_seconds) for item in (*self._init, *self._containers)))
        # What waits for configuration or an image has no process whose end it would notice.
        await asyncio.wait((self._run,), timeout=0.5)
        self._run.cancel()
        self._publisher.cancel()
        await asyncio.gather(self._run, self._publisher, return_exceptions=True)
        if not delete:
            return
        body = {
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}
        }  # fmt: skip
        while True:
            try:
                await self._publish()
                await self._api.delete(self._path, body)
                break
            except TRANSIENT as error:
                if isinstance(error, ApiError) and error.status == 404:
                    break
                _log.warning("%s cannot be deleted yet: %s", self._path, error)
                await asyncio.sleep(_RETRY_SECONDS)
        remove(self._directory / "volumes")

    async def _live(self) -> None:
        deadline = self._pod["spec"].get("activeDeadlineSeconds")
        if deadline is not None:
            active = (datetime.now(UTC) - datetime.fromisoformat(self._started_at)).total_seconds()
            deadline = max(deadline - active, 0.1)
        try:
            await self._all_containers_until(deadline)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # The outermost loop of a pod: whatever it was, whoever waits for the pod must hear of it.
            _log.exception("%s failed", self._path)
            self._failure = ("ProcessNodeError", repr(error))
        self._changed()

    async def _all_containers_until(self, deadline_seconds: float | None) -> None:
        running = asyncio.create_task(self._all_containers(), name="containers")
        try:
            done, _ = await asyncio.wait((running,), timeout=deadline_seconds)
            if not done:
                self._failure = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
                everything = (*self._init, *self._containers)
                await asyncio.gather(*(item.stop(self._grace_seconds()) for item in everything))
                await asyncio.wait((running,), timeout=0.5)
        finally:
            running.cancel()
            await asyncio.wait((running,))
        if not running.cancelled():
            running.result()

    async def _all_containers(self) -> None:
        volumes = await self._prepared()
        if self._init:
            for item in self._containers:
                item.wait_for("PodInitializing")
        for item in self._init:
            await self._container(item, volumes)
            if not item.succeeded:
                self._failure = ("", f"init container {item.name} failed")
                return
        async with asyncio.TaskGroup() as group:
            for item in self._containers:
                group.create_task(self._container(item, volumes), name=f"container-{item.name}")

    async def _prepared(self) -> dict[str, Path]:
        volumes = Volumes(self._api, self._pod, self._directory, self.ip)
        while True:
            try:
                return await volumes.prepare()
            except ConfigMissingError as error:
                for item in (*self._init, *self._containers):
                    item.wait_for("ContainerCreating", f"MountVolume.SetUp failed: {error}")
            except TRANSIENT as error:
                _log.warning("volumes of %s: %s", self._path, error)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _container(self, item: Container, volumes: Mapping[str, Path]) -> None:
        if item.ended:
            return
        image = str(item.spec.get("image", ""))
        if image.startswith(UNREACHABLE_REGISTRY):
            item.wait_for("ErrImagePull", f'failed to pull image "{image}": the registry does not answer')
            await asyncio.sleep(2 * _RETRY_SECONDS)
            item.wait_for("ImagePullBackOff", f'Back-off pulling image "{image}"')
            await asyncio.Event().wait()
        declared, names = await self._declared(item)
        directories = mounts(item.spec, volumes, declared)
        temporary = directories.setdefault("/tmp", str(self._made("tmp")))
        machine = self._machine_environment(temporary, directories)
        directories[item.spec.get("terminationMessagePath", TERMINATION_PATH)] = str(item.termination_message)
        variables = dict(machine)
        for name, value in declared.items():
            variables[name] = expand(value, variables)

        def word(text: str) -> str:
            return names.told(rewrite(expand(text, variables), directories))

        # What the machine gives is real already: only what the pod declares speaks of mounts.
        environment = machine | {name: names.told(rewrite(variables[name], directories)) for name in declared}
        command = [word(text) for text in (*(item.spec.get("command") or ()), *(item.spec.get("args") or ()))]
        working_directory = Path(rewrite(item.spec.get("workingDir", ""), directories) or temporary)
        program = Program(environment=environment, working_directory=working_directory, word=word)
        await item.run(command, program, self._grace_seconds())

    async def _declared(self, item: Container) -> tuple[dict[str, str], Names]:
        """Return the variables of the spec and the pods they name; wait until what they refer to is there."""
        reader = Volumes(self._api, self._pod, self._directory, self.ip)
        while True:
            try:
                declared = await reader.environment(item.spec)
                words = (*(item.spec.get("command") or ()), *(item.spec.get("args") or ()))
                return declared, await Names.of(self._api, self._pod, self.ip, (*declared.values(), *words))
            except ConfigMissingError as error:
                item.wait_for("CreateContainerConfigError", str(error))
            except NoSuchHostError as error:
                item.wait_for("ContainerCreating", str(error))
            except TRANSIENT as error:
                _log.warning("variables of %s: %s", self._path, error)
            await asyncio.sleep(_RETRY_SECONDS)

    def _machine_environment(self, temporary: str, directories: Mapping[str, str]) -> dict[str, str]:
        host, _, port = self._api.server.removeprefix("https://").partition(":")
        environment = {
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
        token = Path(directories.get(SERVICE_ACCOUNT_PATH, "")) / "token"
        if SERVICE_ACCOUNT_PATH in directories and token.exists():
            namespace = str(self._pod["metadata"]["namespace"])
            file = self._directory / "kubeconfig"
            file.touch(mode=0o600)
            file.write_text(kubeconfig(self._api.server, self._api.ca_file, token, namespace))
            environment["KUBECONFIG"] = str(file)
        return environment

    def _made(self, name: str) -> Path:
        directory = self._directory / "volumes" / f".{name}"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _grace_seconds(self) -> float:
        return float(self._pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _changed(self) -> None:
        self._changes.set()

    async def _publish_changes(self) -> None:
        self._changes.set()
        while True:
            await self._changes.wait()
            await asyncio.sleep(_PUBLISH_SECONDS)
            self._changes.clear()
            try:
                await self._publish()
            except TRANSIENT as error:
                if isinstance(error, ApiError) and error.status == 404:
                    return
                _log.warning("status of %s: %s", self._path, error)
                self._changes.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _publish(self) -> None:
        current = await self._api.get(self._path)
        if current["metadata"]["uid"] != self.uid:
            return
        conditions = current.get("status", {}).get("conditions") or ()
        before = {item["type"]: item for item in conditions}
        phase = self._phase()
        over = "PodCompleted" if phase == "Succeeded" else "PodFailed" if phase == "Failed" else ""
        unready = [item.name for item in self._containers if not item.ready]
        ready = not unready and phase == "Running"
        reason = "" if ready else over or "ContainersNotReady"
        message = "" if ready or over else f"containers with unready status: [{' '.join(unready)}]"
        initialized = all(item.succeeded for item in self._init)
        status: Json = {
            "phase": phase,
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}],
            "startTime": self._started_at,
            "conditions": [
                *(item for item in conditions if item["type"] not in _OURS),
                _condition(before, "Initialized", initialized, "" if initialized else "ContainersNotInitialized", ""),
                _condition(before, "ContainersReady", ready, reason, message),
                _condition(before, "Ready", ready, reason, message),
            ],
            "containerStatuses": [item.status() for item in self._containers],
        }
        if self._init:
            status["initContainerStatuses"] = [item.status() for item in self._init]
        if self._failure:
            status["reason"], status["message"] = self._failure[0] or None, self._failure[1]
        # The resource version makes two writers of conditions take turns: a conflict is tried again.
        body = {"metadata": {"resourceVersion": current["metadata"]["resourceVersion"]}, "status": status}
        await self._api.patch(f"{self._path}/status", body)

    def _phase(self) -> str:
        if self._failure:
            # A pod is over when its processes are.
            return "Failed" if not any("running" in item.state for item in self._containers) else "Running"
        if all(item.ended for item in self._containers):
            return "Succeeded" if all(item.succeeded for item in self._containers) else "Failed"
        started = any("running" in item.state or item.restart_count or item.ended for item in self._containers)
        return "Running" if started else "Pending"


def _condition(before: Mapping[str, Json], kind: str, value: bool, reason: str, message: str) -> Json:
    status = "True" if value else "False"
    previous = before.get(kind)
    since = previous["lastTransitionTime"] if previous and previous["status"] == status else now()
    condition = {"type": kind, "status": status, "lastTransitionTime": since}
    return condition | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
