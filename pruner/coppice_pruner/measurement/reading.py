"""One window: batches one after another while the meter counts, begun and ended on a tick of its counter."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from coppice_api.base import Provenance
from coppice_pruner.errors import MeasurementFailedError
from coppice_pruner.measurement.workload import Workload
from coppice_pruner.meters import Meter

MIN_TICKS = 50
"""Counter updates in a window at least. Both ends lie on a tick, so what is left is the jitter of two ticks."""
_WARM_UP_SECONDS = 0.05
_WARM_UP_RUNS = 3
_THROTTLED_ATTEMPTS = 3


@dataclass(frozen=True)
class Reading:
    """What one window found."""

    energy_joules: float
    """Per inference."""
    power_watts: float
    """Average over the window."""
    latency_seconds: float
    """Median of one batch."""
    inferences: int
    seconds: float
    provenance: Provenance


def take_reading(
    workload: Workload,
    meter: Meter,
    *,
    window_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Reading:
    """Run a workload for a window and return what it cost.

    A meter whose counter moves in steps lengthens the window to `MIN_TICKS` of them. A window in which the device
    throttled says nothing about the model and is taken again.

    Args:
        workload: Repeated back to back.
        meter: Counts joules.
        window_seconds: Length at least.
        clock: Monotonic seconds.

    Raises:
        MeasurementFailedError: If the counter did not move, or the device throttled in every attempt.
    """
    _warm_up(workload, clock)
    reasons = ""
    for _ in range(_THROTTLED_ATTEMPTS):
        reading = _window(workload, meter, max(window_seconds, MIN_TICKS * meter.update_period_seconds), clock)
        conditions = meter.conditions()
        if not conditions.throttled:
            return reading
        reasons = ", ".join(conditions.throttle_reasons)
    raise MeasurementFailedError(
        f"{meter.device} throttled ({reasons}) in {_THROTTLED_ATTEMPTS} windows, so its energy says nothing about the "
        "model: cool the device or lower its load, and run again"
    )


def _warm_up(workload: Workload, clock: Callable[[], float]) -> None:
    begin, runs = clock(), 0
    while runs < _WARM_UP_RUNS or clock() - begin < _WARM_UP_SECONDS:
        workload.run()
        workload.synchronize()
        runs += 1


def _window(workload: Workload, meter: Meter, window_seconds: float, clock: Callable[[], float]) -> Reading:
    latencies: list[float] = []

    def batch() -> float:
        begin = clock()
        workload.run()
        workload.synchronize()
        end = clock()
        latencies.append(end - begin)
        return end

    limit_seconds = window_seconds + 1.0
    begin_joules, begin = _edge(meter, batch, clock, limit_seconds)
    latencies.clear()
    while (now := batch()) - begin < window_seconds:
        pass
    end_joules, end = _edge(meter, batch, clock, limit_seconds) if meter.update_period_seconds else (
        meter.read_joules(), now
    )  # fmt: skip
    joules, seconds = end_joules - begin_joules, end - begin
    if not joules > 0:
        raise MeasurementFailedError(
            f"{meter.device} counted {joules:g} J in {seconds:.3g} s of work: lengthen measurement.windowSeconds, or "
            "choose another measurement.meter"
        )
    inferences = len(latencies) * workload.batch_size
    return Reading(
        joules / inferences, joules / seconds, statistics.median(latencies), inferences, seconds, meter.provenance
    )


def _edge(
    meter: Meter, batch: Callable[[], float], clock: Callable[[], float], limit_seconds: float
) -> tuple[float, float]:
    """Return the counter and the time at its next tick, working until then; at once when it has no ticks."""
    first, begin = meter.read_joules(), clock()
    if not meter.update_period_seconds:
        return first, begin
    while (joules := meter.read_joules()) == first:
        if batch() - begin > limit_seconds:
            raise MeasurementFailedError(
                f"the energy counter of {meter.device} stood still for {limit_seconds:.3g} s of work: choose another "
                "measurement.meter"
            )
    return joules, clock()
