"""Waiting on conditions with deadlines, and looking at processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEADLINE_SECONDS = 60.0


def wait_for(condition: Callable[[], Any], what: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until a condition holds; fail the test when it does not in time."""
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {deadline_seconds:.0f} s"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
