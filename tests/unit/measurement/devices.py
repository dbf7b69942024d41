"""A device that is simulated: time and joules follow from the work it is given, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from coppice_api.base import Provenance
from coppice_pruner.measurement import Workload
from coppice_pruner.meters import DeviceConditions

IDLE_SHARE = 0.1


class Device:
    """A device on which a batch takes time and joules; its counter moves every `tick` seconds."""

    name = "stand-in"
    device = "a stand-in"
    provenance = Provenance.SIMULATED

    def __init__(self, *, tick: float = 0.0, watts: float = 10.0, throttled: int = 0) -> None:
        self.seconds = 0.0
        self.joules = 0.0
        self.update_period_seconds = tick
        self.watts = watts
        self.throttled = throttled
        self.told: Iterator[DeviceConditions] = iter(())
        """Conditions to give before those that follow from `throttled`."""
        self.failures: list[Exception | None] = []
        """Raised by the next readings, one each."""
        self._shown = 0.0

    def clock(self) -> float:
        return self.seconds

    def workload(self, seconds: float, batch_size: int = 4, noise: Callable[[], float] = lambda: 1.0) -> Workload:
        return Workload(lambda: self._spend(seconds * noise(), self.watts), batch_size)

    def sleep(self, seconds: float) -> None:
        """Pass time without work."""
        self._spend(seconds, self.watts * IDLE_SHARE)

    def read_joules(self) -> float:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return self._shown if self.update_period_seconds else self.joules

    def conditions(self) -> DeviceConditions:
        told = next(self.told, None)
        if told is not None:
            return told
        self.throttled -= 1
        return DeviceConditions(throttle_reasons=("hardware slowdown",) if self.throttled >= 0 else ())

    def close(self) -> None:
        """Nothing."""

    def _spend(self, seconds: float, watts: float) -> None:
        end = self.seconds + seconds
        if self.update_period_seconds:
            last_tick = end // self.update_period_seconds * self.update_period_seconds
            if last_tick > self.seconds:
                self._shown = self.joules + (last_tick - self.seconds) * watts
        self.joules += seconds * watts
        self.seconds = end
