"""One window: batches one after another while the meter counts, begun and ended on a tick of its counter."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from coppice_api.base import Provenance
from coppice_pruner.errors import MeasurementFailedError
from coppice_pruner.measurement.workload import Workload
from coppice_pruner.meters import CounterFellError, DeviceConditions, Meter

MIN_TICKS = 50
"""Counter updates in a window at least. Both ends lie on a tick, so what is left is the jitter of two ticks."""
FEW_TICKS = 15
"""Enough to steer by and to calibrate with: an H100's counter moves every 100 ms, under load every 77 to 123 ms (19
steps watched), so both ends together put a window of these off by 2 % at most."""
ATTEMPTS = 3
"""Windows tried before a device that spoils each of them is given up."""
_WARM_UP_SECONDS = 0.05
"""A short window is warmed up for an eighth of itself, and for a run at least."""
_UNKNOWN = DeviceConditions()
_WARM_UP_RUNS = 3


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
    conditions: DeviceConditions = _UNKNOWN
    """At the window's end, while the device is still warm from it."""
    foreign_cores: float | None = None
    """Cores that others kept busy meanwhile, on average."""
    rejected: tuple[str, ...] = ()
    """Why windows before this one were thrown away."""


def take_reading(
    workload: Workload,
    meter: Meter,
    *,
    window_seconds: float,
    min_ticks: int = MIN_TICKS,
    clock: Callable[[], float] = time.perf_counter,
) -> Reading:
    """Run a workload for a window and return what it cost.

    A meter whose counter moves in steps lengthens the window to `min_ticks` of them. A window in which the device
    throttled, or its counter fell, says nothing about the model and is taken again.

    Args:
        workload: Repeated back to back.
        meter: Counts joules.
        window_seconds: Length at least.
        min_ticks: Of the counter in a window.
        clock: Monotonic seconds.

    Raises:
        MeasurementFailedError: If the counter did not move, or every attempt was spoilt.
        CounterStuckError: If the counter cannot be read any more.
    """
    length_seconds = max(window_seconds, min_ticks * meter.update_period_seconds)
    _warm_up(workload, clock, length_seconds)
    rejected: list[str] = []
    last = ""
    for _ in range(ATTEMPTS):
        try:
            reading, reasons = _window(workload, meter, length_seconds, clock)
        except CounterFellError as error:
            rejected.append("the counter fell")
            last = str(error)
            continue
        if not reasons:
            return dataclasses.replace(reading, rejected=tuple(rejected))
        rejected.append(f"throttled: {', '.join(reasons)}")
        last = (
            f"{meter.device} throttled ({', '.join(reasons)}) in {ATTEMPTS} windows, so its energy says nothing about "
            "the model: cool the device or lower its load, and run again"
        )
    raise MeasurementFailedError(last)


def _warm_up(workload: Workload, clock: Callable[[], float], window_seconds: float) -> None:
    seconds = min(_WARM_UP_SECONDS, window_seconds / 8)
    # Short windows come by the dozen, and three runs of a large model may take as long as one of them.
    least_runs = _WARM_UP_RUNS if seconds == _WARM_UP_SECONDS else 1
    begin, runs = clock(), 0
    while runs < least_runs or clock() - begin < seconds:
        workload.run()
        workload.synchronize()
        runs += 1


def _window(
    workload: Workload, meter: Meter, window_seconds: float, clock: Callable[[], float]
) -> tuple[Reading, tuple[str, ...]]:
    """Return a window and what throttled the device at either end of it."""
    latencies: list[float] = []

    def batch() -> float:
        begin = clock()
        workload.run()
        workload.synchronize()
        end = clock()
        latencies.append(end - begin)
        return end

    limit_seconds = window_seconds + 1.0
    before, asked = meter.conditions(), clock()
    begin_joules, begin = _edge(meter, batch, clock, limit_seconds)
    latencies.clear()
    while (now := batch()) - begin < window_seconds:
        pass
    end_joules, end = _edge(meter, batch, clock, limit_seconds) if meter.update_period_seconds else (
        meter.read_joules(), now
    )  # fmt: skip
    after, answered = meter.conditions(), clock()
    joules, seconds = end_joules - begin_joules, end - begin
    if not joules > 0:
        raise MeasurementFailedError(
            f"{meter.device} counted {joules:g} J in {seconds:.3g} s of work: lengthen measurement.windowSeconds, or "
            "choose another measurement.meter"
        )
    inferences = len(latencies) * workload.batch_size
    reading = Reading(
        joules / inferences, joules / seconds, statistics.median(latencies), inferences, seconds, meter.provenance,
        after, _foreign_cores(before, after, answered - asked),
    )  # fmt: skip
    return reading, tuple(dict.fromkeys((*(before.throttle_reasons or ()), *(after.throttle_reasons or ()))))


def _foreign_cores(before: DeviceConditions, after: DeviceConditions, seconds: float) -> float | None:
    if before.foreign_cpu_seconds is None or after.foreign_cpu_seconds is None or seconds <= 0:
        return None
    # The kernel counts in hundredths of a second: a short window of an idle machine may come out below zero.
    return max(0.0, after.foreign_cpu_seconds - before.foreign_cpu_seconds) / seconds


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
