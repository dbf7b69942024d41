"""Joules without a counter: seconds of CPU time x watts of one busy core.

Good for ratios of two models on one machine, where the watts cancel out. As an absolute figure it is as good as the
table (`watts`). It knows no idle power: what does not compute costs nothing here, by construction.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from coppice_api.base import Provenance
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.meters.base import DeviceConditions
from coppice_pruner.meters.neighbours import foreign_cpu_seconds
from coppice_pruner.meters.watts import DEFAULT_WATTS_PER_CORE, Cpu, part_of

ENV_WATTS_PER_CORE = "COPPICE_WATTS_PER_CORE"


class EstimateMeter:
    """CPU seconds of this process, all threads, times watts.

    Args:
        watts_per_core: What one busy core draws.
        cpu: Name of the CPU, for `device`.
        origin: Where the watts come from, for `device`.
        clock: CPU seconds used so far.
    """

    name = "estimate"
    provenance = Provenance.ESTIMATED
    update_period_seconds = 0.0

    def __init__(
        self,
        watts_per_core: float,
        *,
        cpu: str = "CPU",
        origin: str = "",
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.watts_per_core = watts_per_core
        self.device = f"{cpu}, {watts_per_core:.3g} W a busy core{f' ({origin})' if origin else ''}"
        self._clock = clock

    def read_joules(self) -> float:
        """Return watts times CPU seconds so far."""
        return self.watts_per_core * self._clock()

    def conditions(self) -> DeviceConditions:
        """Return what others use; CPU time says nothing of clocks, heat or throttling."""
        return DeviceConditions(foreign_cpu_seconds=foreign_cpu_seconds())

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
    cpu = read_cpu(cpuinfo)
    text = environ.get(ENV_WATTS_PER_CORE)
    if not text:
        part = part_of(cpu)
        if part is None:
            return EstimateMeter(
                DEFAULT_WATTS_PER_CORE, cpu=cpu.name, origin=f"not in the table; {ENV_WATTS_PER_CORE} sets it"
            )
        return EstimateMeter(part.watts_per_core, cpu=cpu.name, origin=f"as {part.name}")
    try:
        watts = float(text)
    except ValueError:
        watts = 0.0
    if not 0 < watts < 1000:
        raise InputRefusedError(f"{ENV_WATTS_PER_CORE} is {text!r}; give the watts of one busy core, such as 6.5")
    return EstimateMeter(watts, cpu=cpu.name, origin=ENV_WATTS_PER_CORE)


def read_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cpu:
    """Return what this machine says of its CPU."""
    try:
        return Cpu.of(cpuinfo.read_text(errors="replace"))
    except OSError:
        return Cpu()


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the CPU's name as its maker gives it."""
    return read_cpu(cpuinfo).name
