"""What else this machine computes: work of others heats the same package and draws from the same socket.

`/proc/stat` counts the whole machine (of a virtual machine, all of that), in containers too.

Source: proc_stat(5).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_BUSY = (0, 1, 2, 5, 6)
"""user, nice, system, irq, softirq; a guest's time is in user, and stolen time was spent by another machine."""


def foreign_cpu_seconds(
    stat: Path = Path("/proc/stat"), own_seconds: Callable[[], float] = time.process_time
) -> float | None:
    """Return the CPU time that everything but this process has used since boot; None where the kernel does not tell.

    Args:
        stat: Where the kernel counts.
        own_seconds: CPU seconds of this process.
    """
    try:
        with stat.open() as lines:
            name, *ticks = lines.readline().split()
        if name != "cpu":
            return None
        busy_seconds = sum(int(ticks[place]) for place in _BUSY) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    return busy_seconds - own_seconds()
