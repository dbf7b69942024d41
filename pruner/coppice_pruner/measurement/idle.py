"""What the device draws with the model loaded and no work: apart from the joules of an inference, never taken off."""

from __future__ import annotations

import time
from collections.abc import Callable

from coppice_api.base import Provenance
from coppice_pruner.measurement.reading import ATTEMPTS, MIN_TICKS
from coppice_pruner.meters import CounterFellError, Meter

_LOOK_SECONDS = 0.002
"""Between two looks at the counter; short against its 20 to 100 ms."""


def idle_power_watts(
    meter: Meter,
    *,
    window_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> float | None:
    """Wait for a window and return the average power meanwhile.

    Args:
        meter: Counts joules.
        window_seconds: Length at least; a counter that moves in steps lengthens it to `MIN_TICKS` of them.
        clock: Monotonic seconds.
        sleep: Waits.

    Returns:
        None where it cannot be known: an estimate charges work alone, so 0 would be its construction and no finding;
        and where the counter did not move.

    Raises:
        CounterStuckError: If the counter cannot be read any more.
    """
    if meter.provenance is Provenance.ESTIMATED:
        return None
    length_seconds = max(window_seconds, MIN_TICKS * meter.update_period_seconds)
    for _ in range(ATTEMPTS):
        try:
            begin = _tick(meter, length_seconds, clock, sleep)
            if begin is None:
                return None
            sleep(max(0.0, length_seconds - (clock() - begin[1])))
            end = _tick(meter, length_seconds, clock, sleep)
        except CounterFellError:
            continue
        return None if end is None else (end[0] - begin[0]) / (end[1] - begin[1])
    return None


def _tick(
    meter: Meter, limit_seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> tuple[float, float] | None:
    """Return the counter and the time at its next step, None if there is none for a window's length."""
    first, begin = meter.read_joules(), clock()
    if not meter.update_period_seconds:
        return first, begin
    while (joules := meter.read_joules()) == first:
        if clock() - begin > limit_seconds:
            return None
        sleep(min(_LOOK_SECONDS, meter.update_period_seconds))
    return joules, clock()
