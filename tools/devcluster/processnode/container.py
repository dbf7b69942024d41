"""One container as one process group: started, probed, ended, described as a kubelet describes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from devcluster.processnode.api import Json
from devcluster.supervisor import die_with_parent

MAX_MESSAGE_BYTES = 4096
_TAIL_BYTES = 2048
_FIRST_BACK_OFF_SECONDS, _LAST_BACK_OFF_SECONDS = 1.0, 10.0


def now() -> str:
    """Return the time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Container:
    """The life of one container of a pod, restarts included.

    Args:
        spec: core/v1 Container.
        restart_policy: Always, OnFailure or Never.
        pod_ip: Where probes go.
        directory: Of the pod: logs and termination messages.
        changed: Called when the status changed.
    """

    def __init__(
        self, spec: Json, restart_policy: str, pod_ip: str, directory: Path, changed: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.name = str(spec["name"])
        self.state: Json = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Json = {}
        self.restart_count = 0
        self.ready = False
        self.started = False
        self.ended = False
        self._restart_policy, self._pod_ip = restart_policy, pod_ip
        self._directory, self._changed = directory, changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._unhealthy = False
        self._grace_seconds = 30.0
        self.log = directory / f"{self.name}.log"
        self.termination_message = directory / f"{self.name}.termination-message"

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well."""
        return self.ended and self.state.get("terminated", {}).get("exitCode") == 0

    def wait_for(self, reason: str, message: str) -> None:
        """Say what the container waits for."""
        waiting = {"waiting": {"reason": reason, "message": message}}
        if self.state != waiting:
            self.state = waiting
            self._changed()

    async def run(
        self, command: list[str], environment: Mapping[str, str], working_directory: Path, grace_seconds: float
    ) -> None:
        """Run until it has ended for good."""
        self._grace_seconds = grace_seconds
        back_off = _FIRST_BACK_OFF_SECONDS
        while not self._stopping:
            exit_code, started_at = await self._once(command, environment, working_directory)
            again = self._restart_policy == "Always" or (self._restart_policy == "OnFailure" and exit_code != 0)
            terminated = self._terminated(exit_code, started_at)
            self.ready = self.started = False
            if self._stopping or not again:
                self.state, self.ended = terminated, True
                self._changed()
                return
            self.last_state = terminated
            self.restart_count += 1
            self.wait_for("CrashLoopBackOff", f"back-off {back_off:.0f}s restarting failed container={self.name}")
            await asyncio.sleep(back_off)
            back_off = min(2 * back_off, _LAST_BACK_OFF_SECONDS)

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM to the process group, SIGKILL after the grace period."""
        self._stopping = True
        await self._end(grace_seconds)

    def status(self) -> Json:
        """Return core/v1 ContainerStatus."""
        return {
            "name": self.name,
            "image": self.spec.get("image", ""),
            "imageID": f"process://{self.spec.get('image', '')}",
            "containerID": f"process://{self._process.pid}" if self._process else "",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restart_count,
            "state": self.state,
            "lastState": self.last_state,
        }

    async def _once(
        self, command: list[str], environment: Mapping[str, str], working_directory: Path
    ) -> tuple[int, str]:
        started_at = now()
        self.termination_message.unlink(missing_ok=True)
        self.termination_message.touch()
        program = shutil.which(command[0], path=environment["PATH"]) if command else None
        if program is None:
            self._note(f"exec: {command[0] if command else ''!r}: executable file not found in $PATH")
            return 127, started_at
        with self.log.open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    program, *command[1:], env=dict(environment), cwd=working_directory,
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True, preexec_fn=die_with_parent,
                )  # fmt: skip
            except OSError as error:
                self._note(f"{program}: {error}")
                return 128, started_at
        self.state = {"running": {"startedAt": started_at}}
        has_startup = "startupProbe" in self.spec
        self.started, self.ready = not has_startup, not has_startup and "readinessProbe" not in self.spec
        self._unhealthy = False
        self._changed()
        probes = asyncio.create_task(self._probe_all(), name=f"probes-{self.name}")
        try:
            exit_code = await self._process.wait()
        finally:
            probes.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probes
            self._signal(signal.SIGKILL)
        return (128 - exit_code if exit_code < 0 else exit_code), started_at

    async def _end(self, grace_seconds: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), timeout=max(grace_seconds, 0.1))
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _note(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(text + "\n")

    def _terminated(self, exit_code: int, started_at: str) -> Json:
        message = (
            self.termination_message.read_bytes()[-MAX_MESSAGE_BYTES:] if self.termination_message.exists() else b""
        )
        if not message and exit_code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            message = self.log.read_bytes()[-_TAIL_BYTES:]
        reason = "Completed" if exit_code == 0 else "StartError" if exit_code == 127 else "Error"
        terminated: dict[str, Any] = {
            "exitCode": exit_code,
            "reason": reason,
            "startedAt": started_at,
            "finishedAt": now(),
        }
        if message:
            terminated["message"] = message.decode(errors="replace")
        return {"terminated": terminated}

    async def _probe_all(self) -> None:
        if "startupProbe" in self.spec:
            if not await self._probe(self.spec["startupProbe"], until_success=True):
                await self._fail("startup")
                return
            self.started = True
            self.ready = "readinessProbe" not in self.spec
            self._changed()
        tasks = [self._watch_liveness(), self._watch_readiness()]
        await asyncio.gather(*tasks)

    async def _watch_liveness(self) -> None:
        if "livenessProbe" in self.spec:
            await self._probe(self.spec["livenessProbe"], until_success=False)
            await self._fail("liveness")

    async def _watch_readiness(self) -> None:
        probe = self.spec.get("readinessProbe")
        if probe is None:
            return
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        good = bad = 0
        while True:
            if await self._ask(probe):
                good, bad = good + 1, 0
            else:
                good, bad = 0, bad + 1
            ready = self.ready
            if good >= probe.get("successThreshold", 1):
                ready = True
            elif bad >= probe.get("failureThreshold", 3):
                ready = False
            if ready != self.ready:
                self.ready = ready
                self._changed()
            # A pod that is not ready yet is asked more often than a kubelet would: tests wait for it.
            await asyncio.sleep(
                probe.get("periodSeconds", 10) if self.ready else min(1, probe.get("periodSeconds", 10))
            )

    async def _probe(self, probe: Json, *, until_success: bool) -> bool:
        """Ask until it succeeds (True) or has failed as often as it may (False)."""
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        failures = 0
        while True:
            if await self._ask(probe):
                if until_success:
                    return True
                failures = 0
            else:
                failures += 1
                if failures >= probe.get("failureThreshold", 3):
                    return False
            await asyncio.sleep(probe.get("periodSeconds", 10))

    async def _fail(self, probe: str) -> None:
        self._note(f"{probe} probe failed; the container is ended")
        await self._end(self._grace_seconds)

    async def _ask(self, probe: Json) -> bool:
        timeout = probe.get("timeoutSeconds", 1)
        try:
            if "httpGet" in probe:
                get = probe["httpGet"]
                url = f"http://{get.get('host') or self._pod_ip}:{self._port(get['port'])}{get.get('path', '/')}"
                headers = {item["name"]: item["value"] for item in get.get("httpHeaders") or ()}
                async with (
                    aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session,
                    session.get(url, headers=headers) as response,
                ):
                    return 200 <= response.status < 400
            if "tcpSocket" in probe:
                host = probe["tcpSocket"].get("host") or self._pod_ip
                connection = asyncio.open_connection(host, self._port(probe["tcpSocket"]["port"]))
                _, writer = await asyncio.wait_for(connection, timeout)
                writer.close()
                return True
            if "exec" in probe:
                process = await asyncio.create_subprocess_exec(
                    *probe["exec"]["command"], stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
                )
                return await asyncio.wait_for(process.wait(), timeout) == 0
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
        return False

    def _port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        named = {item.get("name"): item["containerPort"] for item in self.spec.get("ports") or ()}
        return int(named.get(port) or port)
