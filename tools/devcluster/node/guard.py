"""Ends the process groups of a node that was killed: `python -m devcluster.node.guard`, started by the node.

A parent-death signal reaches the children of a process, not theirs. So the node tells this process of each group, a
line "+PGID" or "-PGID" on a pipe; when the node dies, however it dies, the pipe closes and what is left is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys


class Guard:
    """The node's end of the pipe."""

    def __init__(self) -> None:
        """Start the process; it ends with ours."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "devcluster.node.guard"], stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def add(self, group: int) -> None:
        """Kill this process group when we die."""
        self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """The group has ended; its number may be another's soon."""
        self._tell(f"-{group}")

    def close(self) -> None:
        """End the process, and with it every group that is left."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def main() -> int:
    """Read until the pipe closes, then kill."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
