"""Joules without a counter: seconds of CPU time x watts of one busy core.

Good for ratios of two models on one machine, where the watts cancel out. As an absolute figure it is as good as the
table: a data sheet's package power divided by cores, which leaves out memory and everything outside the package.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from coppice_api.base import Provenance
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.meters.base import DeviceConditions

ENV_WATTS_PER_CORE = "COPPICE_WATTS_PER_CORE"
DEFAULT_WATTS_PER_CORE = 6.0
"""For a CPU the table does not know: the middle of the server parts below."""
WATTS_PER_CORE: tuple[tuple[str, float], ...] = (
    # Vendors' data sheets: package power over physical cores of a common part of the family.
    (r"Xeon.*Platinum 84\d\d|Sapphire Rapids", 350 / 56),  # Intel Xeon Platinum 8480+: 350 W, 56 cores
    (r"Xeon.*Platinum 83\d\d|Ice ?Lake", 270 / 40),  # Intel Xeon Platinum 8380: 270 W, 40 cores
    (r"Xeon.*Platinum 8[12]\d\d|Cascade ?Lake|Skylake", 205 / 28),  # Intel Xeon Platinum 8280: 205 W, 28 cores
    (r"EPYC 9\d\d4", 360 / 96),  # AMD EPYC 9654: 360 W, 96 cores
    (r"EPYC 7\d\d3", 280 / 64),  # AMD EPYC 7763: 280 W, 64 cores
    (r"EPYC 7\d\d2", 225 / 64),  # AMD EPYC 7742: 225 W, 64 cores
    (r"Core.*i9-13\d\d\d", 125 / 24),  # Intel Core i9-13900K: 125 W base power, 24 cores
    (r"Ryzen 9 7\d\d\d", 170 / 16),  # AMD Ryzen 9 7950X: 170 W, 16 cores
    (r"Neoverse|Graviton|Ampere", 250 / 128),  # Ampere Altra Max M128-30: 250 W, 128 cores
)


class EstimateMeter:
    """CPU seconds of this process, all threads, times watts.

    Args:
        watts_per_core: What one busy core draws.
        cpu: Name of the CPU, for `device`.
        clock: CPU seconds used so far.
    """

    name = "estimate"
    provenance = Provenance.ESTIMATED
    update_period_seconds = 0.0

    def __init__(
        self, watts_per_core: float, *, cpu: str = "CPU", clock: Callable[[], float] = time.process_time
    ) -> None:
        self.watts_per_core = watts_per_core
        self.device = f"{cpu}, {watts_per_core:.3g} W a busy core"
        self._clock = clock

    def read_joules(self) -> float:
        """Return watts times CPU seconds so far."""
        return self.watts_per_core * self._clock()

    def conditions(self) -> DeviceConditions:
        """Nothing is known: CPU time says nothing of clocks."""
        return DeviceConditions()

    def close(self) -> None:
        """Nothing to let go of."""


def open_estimate(environ: Mapping[str, str] = os.environ, cpuinfo: Path = Path("/proc/cpuinfo")) -> EstimateMeter:
    """Return the estimate for this machine.

    Args:
        environ: COPPICE_WATTS_PER_CORE overrules the table.
        cpuinfo: Where the CPU's name is.

    Raises:
        InputRefusedError: If the variable is not a number above zero.
    """
    cpu = cpu_name(cpuinfo)
    text = environ.get(ENV_WATTS_PER_CORE)
    if not text:
        return EstimateMeter(watts_per_core(cpu), cpu=cpu)
    try:
        watts = float(text)
    except ValueError:
        watts = 0.0
    if not 0 < watts < 1000:
        raise InputRefusedError(f"{ENV_WATTS_PER_CORE} is {text!r}; give the watts of one busy core, such as 6.5")
    return EstimateMeter(watts, cpu=cpu)


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the CPU's name as its maker gives it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else "CPU"


def watts_per_core(cpu: str) -> float:
    """Return the watts of one busy core of a CPU, from the table."""
    return next(
        (watts for pattern, watts in WATTS_PER_CORE if re.search(pattern, cpu, re.IGNORECASE)), DEFAULT_WATTS_PER_CORE
    )
