"""Windows: work done again and again while a meter counts.

The one place that says what profiling needs of a meter: a counter of joules that only grows. The meters themselves are
`coppice_pruner.meters`'.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from coppice_pruner.errors import MeasurementFailedError

_WARM_UP_RUNS = 3


class EnergyCounter(Protocol):
    """A meter, as far as profiling is concerned."""

    def read_joules(self) -> float:
        """Return the energy used so far, from any starting point."""
        ...


@dataclass(frozen=True)
class Window:
    """What one window cost, per run of the work."""

    energy_joules: float
    seconds: float
    runs: int


def measure_window(
    work: Callable[[], object],
    meter: EnergyCounter,
    *,
    window_seconds: float,
    synchronize: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> Window:
    """Repeat some work for at least a window's length and return the mean cost of one run.

    Args:
        work: Queues or does the work once.
        meter: Counts joules.
        window_seconds: At least 50 of the counter's update periods, or its steps show.
        synchronize: Waits until the device has done what was queued; called before both ends.
        clock: Monotonic seconds.

    Raises:
        MeasurementFailedError: If the counter did not move.
    """
    for _ in range(_WARM_UP_RUNS):
        work()
    synchronize()
    runs, begin_joules, begin_seconds = 0, meter.read_joules(), clock()
    while clock() - begin_seconds < window_seconds or not runs:
        work()
        synchronize()
        runs += 1
    seconds, joules = clock() - begin_seconds, meter.read_joules() - begin_joules
    if not joules > 0:
        raise MeasurementFailedError(
            f"the energy meter counted {joules:g} J in {seconds:.3g} s of work: lengthen measurement.windowSeconds to "
            "many of its update periods, or choose another measurement.meter"
        )
    return Window(joules / runs, seconds / runs, runs)
