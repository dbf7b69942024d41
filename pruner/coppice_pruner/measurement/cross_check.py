"""Two meters read together over one window: what one says over what the other says.

No second meter is the truth. Power readings of an A100 or H100 see about a quarter of the time (Yang et al. 2023,
arXiv:2312.02741), a table of watts knows no turbo. But a factor of two between two ways to the same joules is a sign
that one of them counts something else: another GPU, another socket's work, a broken register.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from coppice_pruner.errors import PrunerError
from coppice_pruner.measurement.reading import MIN_TICKS
from coppice_pruner.measurement.workload import Workload
from coppice_pruner.meters import Meter, Second, second_of

AGREEMENT = (0.5, 2.0)
"""Ratios between which nobody needs to look."""


@dataclass(frozen=True)
class MeterCheck:
    """How two meters agree."""

    ratio: float
    """Joules of the run's meter over joules of the second."""
    source: str
    """The second, for a person."""

    @property
    def agrees(self) -> bool:
        """Whether the ratio is nothing to worry about."""
        return AGREEMENT[0] <= self.ratio <= AGREEMENT[1]


def cross_check(
    workload: Workload,
    meter: Meter,
    *,
    window_seconds: float,
    idle_watts: float | None = None,
    second_of: Callable[[Meter], Second | None] = second_of,
    clock: Callable[[], float] = time.perf_counter,
) -> MeterCheck | None:
    """Read a meter and a second one together while a workload runs.

    Args:
        workload: Repeated back to back.
        meter: The run's.
        window_seconds: Length at least.
        idle_watts: Taken off the meter where the second leaves idling out; without it there is no check then.
        second_of: Finds the second way to the meter's joules.
        clock: Monotonic seconds.

    Returns:
        None where there is no second meter or it gave nothing. A check that fails decides nothing.
    """
    second = second_of(meter)
    if second is None or (second.active_only and idle_watts is None):
        return None
    length_seconds = max(window_seconds, MIN_TICKS * meter.update_period_seconds)
    try:
        with second.counter as counter:
            workload.run()
            workload.synchronize()
            begin, begin_joules, begin_second = clock(), meter.read_joules(), counter.read_joules()
            while clock() - begin < length_seconds:
                workload.run()
                workload.synchronize()
            joules, other = meter.read_joules() - begin_joules, counter.read_joules() - begin_second
            seconds = clock() - begin
    except PrunerError:
        return None
    if second.active_only:
        joules -= (idle_watts or 0.0) * seconds
    return MeterCheck(joules / other, second.source) if other > 0 and joules > 0 else None
