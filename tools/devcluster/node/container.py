"""One container as one process group: started, probed, ended, described as a kubelet describes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from devcluster.node import probes
from devcluster.node.api import Json
from devcluster.node.guard import Guard
from devcluster.node.probes import Program
from devcluster.supervisor import die_with_parent

MAX_MESSAGE_BYTES = 4096
KILLED = 137
_START_ERROR = 128
_TAIL_BYTES = 2048
_FIRST_BACK_OFF_SECONDS, _LAST_BACK_OFF_SECONDS = 1.0, 10.0


class StartError(Exception):
    """The program cannot be started."""


def now() -> str:
    """Return the time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def restarts(policy: str, exit_code: int) -> bool:
    """Whether a container that ended so is started again under a restart policy."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


class Container:
    """The life of one container of a pod, restarts included.

    Args:
        spec: core/v1 Container.
        restart_policy: Always, OnFailure or Never.
        pod_ip: Where probes go.
        directory: Of the pod: logs and termination messages.
        guard: Told of each process group.
        changed: Called when the status changed.
    """

    def __init__(
        self, spec: Json, restart_policy: str, pod_ip: str, directory: Path, guard: Guard, changed: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.name = str(spec["name"])
        self.state: Json = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Json = {}
        self.restart_count = 0
        self.ready = False
        self.started = False
        self.ended = False
        self._restart_policy, self._pod_ip, self._guard = restart_policy, pod_ip, guard
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._program: Program | None = None
        self._stopping = asyncio.Event()
        self._grace_seconds = 30.0
        self.log = directory / f"{self.name}.log"
        self.termination_message = directory / f"{self.name}.termination-message"

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well."""
        return self.ended and self.state.get("terminated", {}).get("exitCode") == 0

    def resume(self, status: Json) -> None:
        """Take over what an earlier life of this node said of the container: what ran then was killed with it."""
        self.restart_count = int(status.get("restartCount", 0))
        self.last_state = status.get("lastState") or {}
        state = status.get("state") or {}
        if "running" in state:
            state = {
                "terminated": {
                    "exitCode": KILLED, "reason": "Error", "message": "the node ended",
                    "startedAt": state["running"]["startedAt"], "finishedAt": now(),
                }
            }  # fmt: skip
        if "terminated" not in state:
            return
        if restarts(self._restart_policy, int(state["terminated"]["exitCode"])):
            self.last_state = state
            self.restart_count += 1
        else:
            self.state, self.ended = state, True

    def wait_for(self, reason: str, message: str = "") -> None:
        """Say what the container waits for."""
        waiting = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        if self.state != waiting and not self.ended:
            self.state = waiting
            self._changed()

    async def run(self, command: list[str], program: Program, grace_seconds: float) -> None:
        """Run until it has ended for good."""
        self._grace_seconds, self._program = grace_seconds, program
        back_off = _FIRST_BACK_OFF_SECONDS
        while not self._stopping.is_set() and not self.ended:
            terminated = await self._once(command, program)
            self.ready = self.started = False
            if self._stopping.is_set() or not restarts(self._restart_policy, terminated["exitCode"]):
                self.state, self.ended = {"terminated": terminated}, True
                self._changed()
                return
            self.last_state = {"terminated": terminated}
            self.wait_for("CrashLoopBackOff", f"back-off {back_off:.0f}s restarting failed container={self.name}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(back_off):
                    await self._stopping.wait()
            if self._stopping.is_set():
                self.state, self.ended = {"terminated": terminated}, True
                self._changed()
                return
            self.restart_count += 1
            back_off = min(2 * back_off, _LAST_BACK_OFF_SECONDS)

    async def stop(self, grace_seconds: float) -> None:
        """The preStop hook, SIGTERM to the process group, SIGKILL after the grace period."""
        self._stopping.set()
        await self._end(grace_seconds)

    def status(self) -> Json:
        """Return core/v1 ContainerStatus."""
        image = self.spec.get("image", "")
        return {
            "name": self.name,
            "image": image,
            "imageID": f"process://{image}" if self._process else "",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restart_count,
            "state": self.state,
            "lastState": self.last_state,
        } | ({"containerID": f"process://{self._process.pid}"} if self._process else {})

    async def _once(self, command: list[str], program: Program) -> Json:
        """Run it once and return core/v1 ContainerStateTerminated."""
        started_at = now()
        self.termination_message.write_bytes(b"")
        try:
            process = self._process = await self._start(command, program)
        except StartError as error:
            self._note(str(error))
            return {
                "exitCode": _START_ERROR, "reason": "StartError", "message": str(error),
                "startedAt": started_at, "finishedAt": now(),
            }  # fmt: skip
        self._guard.add(process.pid)
        self.state = {"running": {"startedAt": started_at}}
        has_startup = "startupProbe" in self.spec
        self.started, self.ready = not has_startup, not has_startup and "readinessProbe" not in self.spec
        self._changed()
        watching = asyncio.create_task(self._watch(program), name=f"probes-{self.name}")
        try:
            exit_code = await process.wait()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self._signal(signal.SIGKILL)
            self._guard.remove(process.pid)
        return self._terminated(128 - exit_code if exit_code < 0 else exit_code, started_at)

    async def _start(self, command: list[str], program: Program) -> asyncio.subprocess.Process:
        if not command:
            raise StartError("the process node has no image to take a command from: spec.command is needed")
        found = shutil.which(command[0], path=program.environment["PATH"])
        if found is None:
            raise StartError(f'exec: "{command[0]}": executable file not found in $PATH')
        with self.log.open("ab") as log:
            try:
                program.working_directory.mkdir(parents=True, exist_ok=True)
                return await asyncio.create_subprocess_exec(
                    found, *command[1:], env=dict(program.environment), cwd=program.working_directory,
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True, preexec_fn=die_with_parent,
                )  # fmt: skip
            except OSError as error:
                raise StartError(f'exec: "{command[0]}": {error}') from error

    async def _end(self, grace_seconds: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        deadline = asyncio.get_running_loop().time() + max(grace_seconds, 0.0)
        await self._pre_stop(grace_seconds)
        self._signal(signal.SIGTERM if grace_seconds > 0 else signal.SIGKILL)
        try:
            async with asyncio.timeout(max(deadline - asyncio.get_running_loop().time(), 0.1)):
                await process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await process.wait()

    async def _pre_stop(self, grace_seconds: float) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("preStop") or {}
        if grace_seconds <= 0 or self._program is None:
            return
        if "sleep" in hook:
            await asyncio.sleep(min(hook["sleep"]["seconds"], grace_seconds))
        if "exec" in hook:
            try:
                await probes.execute(hook["exec"]["command"], self._program, grace_seconds)
            except (OSError, TimeoutError) as error:
                self._note(f"preStop: {error!r}")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _note(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(text + "\n")

    def _terminated(self, exit_code: int, started_at: str) -> Json:
        message = _tail(self.termination_message, MAX_MESSAGE_BYTES)
        if not message and exit_code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            message = _tail(self.log, _TAIL_BYTES)
        return {
            "exitCode": exit_code,
            "reason": "Completed" if exit_code == 0 else "Error",
            "startedAt": started_at,
            "finishedAt": now(),
        } | ({"message": message} if message else {})

    async def _watch(self, program: Program) -> None:
        """Carry out the probes of one run; liveness and readiness wait for startup."""
        arguments = (self.spec, self._pod_ip, program)
        if probe := self.spec.get("startupProbe"):
            if not await probes.wait_until_success(probe, *arguments):
                await self._fail("startup")
                return
            self.started = True
            self.ready = "readinessProbe" not in self.spec
            self._changed()
        readiness = self._watch_readiness(program)
        await asyncio.gather(readiness, self._watch_liveness(program))

    async def _watch_readiness(self, program: Program) -> None:
        if probe := self.spec.get("readinessProbe"):
            await probes.follow(probe, self.spec, self._pod_ip, program, self._set_ready)

    async def _watch_liveness(self, program: Program) -> None:
        if probe := self.spec.get("livenessProbe"):
            await probes.wait_until_failure(probe, self.spec, self._pod_ip, program)
            await self._fail("liveness")

    def _set_ready(self, ready: bool) -> None:
        self.ready = ready
        self._changed()

    async def _fail(self, probe: str) -> None:
        self._note(f"{probe} probe failed; the container is ended")
        await self._end(self._grace_seconds)


def _tail(path: Path, count_bytes: int) -> str:
    try:
        return path.read_bytes()[-count_bytes:].decode(errors="replace")
    except FileNotFoundError:
        return ""
