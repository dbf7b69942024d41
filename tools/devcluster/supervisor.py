"""Keeps the programs of one cluster alive and ends them with their owner.

Runs as a process of its own, `python -m devcluster.supervisor DIRECTORY [--lifeline]`. It starts what
DIRECTORY/components.json lists, each with a parent-death signal, so that nothing outlives it even when it is
killed. With --lifeline its standard input is a pipe from the owner: when the owner dies, however it dies,
the pipe closes and the cluster ends. Lines on the pipe are commands ("stop NAME", "start NAME",
"restart NAME"); each is answered with a line on standard output.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.2
_RESTART_SECONDS = 1.0


def die_with_parent() -> None:
    """In a child, before exec: be killed when the parent dies (Linux; elsewhere the lifeline must do)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(1)


class Supervisor:
    """The running programs of one cluster, by name."""

    def __init__(self, directory: Path) -> None:
        """Read the list of components; start nothing yet."""
        self.directory = directory
        self.specifications: dict[str, dict[str, Any]] = {
            item["name"]: item for item in json.loads((directory / "components.json").read_text())
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.started: dict[str, float] = {}
        self.waiting: set[str] = set()
        """Components whose file is not there yet."""

    def start(self, name: str) -> None:
        """Start one component; its output is appended to logs/NAME.log."""
        specification = self.specifications[name]
        needs = specification.get("needs")
        if needs and not Path(needs).exists():
            self.waiting.add(name)
            return
        self.waiting.discard(name)
        log = self.directory / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as stream:
            self.processes[name] = subprocess.Popen(
                specification["argv"],
                env={**os.environ, **specification.get("env", {})},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.started[name] = time.monotonic()
        self.write_state()

    def stop(self, name: str) -> None:
        """End one component: SIGTERM, then SIGKILL after a few seconds."""
        process = self.processes.pop(name, None)
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.write_state()

    def stop_all(self) -> None:
        """End everything, in the reverse of the order it was started in."""
        for name in reversed(list(self.processes)):
            self.stop(name)

    def revive(self) -> None:
        """Start again what ended by itself and is marked for it, as a kubelet does with static pods.

        The controllers give up when the API server is not there yet.
        """
        for name, process in list(self.processes.items()):
            ended_early = time.monotonic() - self.started[name] < _RESTART_SECONDS
            if process.poll() is not None and self.specifications[name]["restart"] and not ended_early:
                self.start(name)

    def write_state(self) -> None:
        """Tell others which process is which: state.json, replaced in one step."""
        state = {
            "supervisor": os.getpid(),
            "components": {
                name: {"pid": process.pid, "exit": process.poll()} for name, process in self.processes.items()
            },
        }
        aside = self.directory / ".state.json"
        aside.write_text(json.dumps(state))
        aside.replace(self.directory / "state.json")

    def obey(self, line: str) -> str:
        """Carry out one command and return the answer."""
        verb, _, name = line.strip().partition(" ")
        if name not in self.specifications:
            return f"error no component named {name}"
        if verb in ("stop", "restart"):
            self.stop(name)
        if verb in ("start", "restart") and name not in self.processes:
            self.start(name)
        return f"ok {verb} {name}"


def main(arguments: list[str]) -> int:
    """Run until told to end, the owner is gone, or a signal comes."""
    directory = Path(arguments[0])
    lifeline = "--lifeline" in arguments
    ending = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal ending
        ending = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    supervisor = Supervisor(directory)
    try:
        for name in supervisor.specifications:
            supervisor.start(name)
        known: dict[str, int | None] = {}
        while not ending:
            supervisor.revive()
            for name in sorted(supervisor.waiting):
                supervisor.start(name)
            exits = {name: process.poll() for name, process in supervisor.processes.items()}
            if exits != known:
                known = exits
                supervisor.write_state()
            if not lifeline:
                time.sleep(_POLL_SECONDS)
                continue
            readable, _, _ = select.select([sys.stdin], [], [], _POLL_SECONDS)
            if readable:
                line = sys.stdin.readline()
                if not line:
                    break
                print(supervisor.obey(line), flush=True)
    finally:
        supervisor.stop_all()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
