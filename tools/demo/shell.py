"""kubectl, and the programs that run beside the demo and end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from devcluster.supervisor import die_with_parent

_POLL_SECONDS = 0.25
_END_SECONDS = 15.0


class DemoError(Exception):
    """The demo cannot go on; the message says what to do or where to look."""


class Kubectl:
    """kubectl against one cluster and namespace.

    Args:
        program: kubectl.
        kubeconfig: Of the cluster.
        namespace: For every command.
    """

    def __init__(self, program: Path, kubeconfig: Path, namespace: str) -> None:
        self.program, self.kubeconfig, self.namespace = program, kubeconfig, namespace

    def run(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 60) -> str:
        """Return what kubectl prints.

        Raises:
            DemoError: If it fails, with its own words.
        """
        command = [str(self.program), "--namespace", self.namespace, *arguments]
        result = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )  # fmt: skip
        if result.returncode:
            raise DemoError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
        return result.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object or a list; empty when there is none."""
        text = self.run("get", *arguments, "-o", "json", "--ignore-not-found")
        return dict(json.loads(text)) if text.strip() else {}


class Program:
    """A program that runs beside the demo.

    Args:
        name: For messages.
        command: Arguments.
        log: Where its output goes.
        environment: Beside ours.
        detached: True lets it outlive the demo.
    """

    def __init__(
        self, name: str, command: list[str], log: Path, environment: Mapping[str, str], *, detached: bool = False
    ) -> None:
        self.name, self.log, self._detached = name, log, detached
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                env={**os.environ, **environment}, start_new_session=True,
                preexec_fn=None if detached else die_with_parent,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise if it has ended by itself.

        Raises:
            DemoError: With the end of its log.
        """
        if self._process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise DemoError(f"{self.name} ended with {self._process.returncode}:\n{tail}")

    def end(self) -> int:
        """SIGTERM, then SIGKILL; return the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._detached or error is not None:
            self.end()


def wait_for(
    what: str, condition: Callable[[], bool], *, seconds: float, beside: tuple[Program, ...] = (),
    news: Callable[[], object] = lambda: None,
) -> None:  # fmt: skip
    """Wait until a condition holds.

    Args:
        what: For messages.
        condition: What is waited for.
        seconds: For how long, from the last news: a busy machine is slow, not stuck.
        beside: Programs that must not end.
        news: Anything that changes as it moves.

    Raises:
        DemoError: If it does not in time, or a program beside us ends.
    """
    deadline, last = time.monotonic() + seconds, news()
    while not condition():
        for program in beside:
            program.check()
        if (now := news()) != last:
            deadline, last = time.monotonic() + seconds, now
        if time.monotonic() > deadline:
            raise DemoError(f"{what}: nothing new for {seconds:.0f} s")
        time.sleep(_POLL_SECONDS)


def python(*arguments: str) -> list[str]:
    """Return a command for this Python."""
    return [sys.executable, *arguments]
