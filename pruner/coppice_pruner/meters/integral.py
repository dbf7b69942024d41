"""Power, looked at again and again and summed up: a second way to a device's energy, to hold the counter against.

Not a meter of its own: what a GPU reports as its power is an average or a sample. On A100 and H100 the sensor sees
about a quarter of the time (Yang et al. 2023, arXiv:2312.02741), so that for bursts of work the integral may be far off
while the counter is right. Steady work looks the same in every quarter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from coppice_pruner.meters.base import MeterUnavailableError, PowerSource

SAMPLE_SECONDS = 0.01
"""Shorter than the 20 to 100 ms in which a GPU renews its reading."""


class PowerIntegral:
    """Joules by the trapezoidal rule, sampled in a thread of its own between `__enter__` and `__exit__`.

    Args:
        source: Tells the power.
        clock: Monotonic seconds.
    """

    def __init__(self, source: PowerSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._clock = source, clock
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._joules = 0.0
        self._failure: MeterUnavailableError | None = None

    def __enter__(self) -> PowerIntegral:
        """Begin to sample.

        Raises:
            MeterUnavailableError: If the device does not tell its power.
        """
        self._last = self._clock(), self._source.power_watts()
        self._thread = threading.Thread(target=self._sample, name="power", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()

    def read_joules(self) -> float:
        """Return the joules so far.

        Raises:
            MeterUnavailableError: If the device stopped telling.
        """
        if self._failure is not None:
            raise self._failure
        self._add()
        return self._joules

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            try:
                self._add()
            except MeterUnavailableError as error:
                self._failure = error
                return

    def _add(self) -> None:
        with self._lock:
            now, watts = self._clock(), self._source.power_watts()
            before, before_watts = self._last
            self._joules += (now - before) * (watts + before_watts) / 2
            self._last = now, watts
