"""Asks a container how it is: httpGet, tcpSocket and exec probes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from devcluster.node.api import Json
from devcluster.supervisor import die_with_parent

_FIRST_PERIOD_SECONDS = 1


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a process of a container needs to start."""

    environment: Mapping[str, str]
    working_directory: Path
    word: Callable[[str], str]
    """Makes a word of a command out of one of the spec."""


async def wait_until_success(probe: Json, container: Json, pod_ip: str, program: Program) -> bool:
    """Ask until it succeeds often enough (True), or has failed as often as it may (False)."""
    return await _follow(probe, container, pod_ip, program, until_success=True)


async def wait_until_failure(probe: Json, container: Json, pod_ip: str, program: Program) -> None:
    """Ask until it has failed as often as it may."""
    await _follow(probe, container, pod_ip, program, until_success=False)


async def follow(probe: Json, container: Json, pod_ip: str, program: Program, tell: Callable[[bool], None]) -> None:
    """Ask for ever; tell of each change of mind."""
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    good = bad = 0
    ready = False
    period = probe.get("periodSeconds", 10)
    while True:
        good, bad = (good + 1, 0) if await ask(probe, container, pod_ip, program) else (0, bad + 1)
        was, ready = (
            ready,
            good >= probe.get("successThreshold", 1) or (ready and bad < probe.get("failureThreshold", 3)),
        )
        if ready != was:
            tell(ready)
        # What is not ready yet is asked more often than a kubelet would: tests wait for it.
        await asyncio.sleep(period if ready else min(_FIRST_PERIOD_SECONDS, period))


async def ask(probe: Json, container: Json, pod_ip: str, program: Program) -> bool:
    """Ask once."""
    timeout = probe.get("timeoutSeconds", 1)
    try:
        if "httpGet" in probe:
            return await _http(probe["httpGet"], container, pod_ip, timeout)
        if "tcpSocket" in probe:
            host = probe["tcpSocket"].get("host") or pod_ip
            connection = asyncio.open_connection(host, port_number(probe["tcpSocket"]["port"], container))
            async with asyncio.timeout(timeout):
                _, writer = await connection
            writer.close()
            return True
        if "exec" in probe:
            return await execute(probe["exec"]["command"], program, timeout) == 0
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False
    return False


async def execute(command: list[str], program: Program, timeout_seconds: float) -> int:
    """Run a command as the container would and return its exit code.

    Raises:
        TimeoutError: If it takes longer; it is killed.
        OSError: If it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *(program.word(item) for item in command),
        env=dict(program.environment), cwd=program.working_directory, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True, preexec_fn=die_with_parent,
    )  # fmt: skip
    try:
        async with asyncio.timeout(timeout_seconds):
            return await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def port_number(port: int | str, container: Json) -> int:
    """Return a port by number or by name.

    Raises:
        ValueError: If no port of the container has that name.
    """
    named = {item.get("name"): item["containerPort"] for item in container.get("ports") or ()}
    return int(named.get(port, port))


async def _http(get: Json, container: Json, pod_ip: str, timeout_seconds: float) -> bool:
    scheme = str(get.get("scheme", "HTTP")).lower()
    url = f"{scheme}://{get.get('host') or pod_ip}:{port_number(get['port'], container)}{get.get('path', '/')}"
    headers = {item["name"]: item["value"] for item in get.get("httpHeaders") or ()}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_seconds)) as session,
        session.get(url, headers=headers, ssl=False) as response,
    ):
        return 200 <= response.status < 400


async def _follow(probe: Json, container: Json, pod_ip: str, program: Program, *, until_success: bool) -> bool:
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    failures = successes = 0
    while True:
        if await ask(probe, container, pod_ip, program):
            successes, failures = successes + 1, 0
            if until_success and successes >= probe.get("successThreshold", 1):
                return True
        else:
            successes, failures = 0, failures + 1
            if failures >= probe.get("failureThreshold", 3):
                return False
        await asyncio.sleep(probe.get("periodSeconds", 10))
