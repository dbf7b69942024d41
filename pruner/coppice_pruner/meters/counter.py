"""A hardware counter as a meter needs it: joules that only grow, whatever the register behind them does.

Registers wrap around (RAPL), start again when a driver is loaded (NVML, amdsmi), and are read by more than one thread:
the run's own, and the one that answers a scrape.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable

from coppice_pruner.meters.base import CounterFellError

PERIOD_SEARCH_SECONDS = 0.6
"""Holds at least five steps of the slowest counter."""
_DEFAULT_PERIOD_SECONDS = 0.1
"""Taken when the counter stood still during the search: the slowest known."""


class RisingCounter:
    """Joules from a register.

    Args:
        read: The register.
        joules_per_unit: Of the register.
        device: For messages.
        wraps_at: Where the register starts again from 0 by design; None where a smaller value means that its driver was
            loaded again.
    """

    def __init__(
        self, read: Callable[[], int], *, joules_per_unit: float, device: str, wraps_at: int | None = None
    ) -> None:
        self._read, self._joules_per_unit, self._device, self._wraps_at = read, joules_per_unit, device, wraps_at
        self._lock = threading.Lock()
        self._last = read()
        self._passed = 0
        """Units counted before the register last started again."""
        self._falls: list[tuple[int, int]] = []
        # Each thread hears of a fall itself: a scrape that met it first would hide it from the window it spoils.
        self._heard = threading.local()
        self._heard.falls = 0

    def read_joules(self) -> float:
        """Return the joules so far.

        Raises:
            CounterFellError: Once in each thread that had read before the register fell. Readings go on from there,
                without what was used in between.
        """
        with self._lock:
            value = self._read()
            if value < self._last:
                if self._wraps_at is None:
                    self._falls.append((self._last, value))
                self._passed += self._last if self._wraps_at is None else self._wraps_at
            self._last = value
            units, falls = self._passed + value, len(self._falls)
        heard, self._heard.falls = getattr(self._heard, "falls", falls), falls
        if heard != falls:
            high, low = (unit * self._joules_per_unit for unit in self._falls[-1])
            raise CounterFellError(
                f"the energy counter of {self._device} fell from {high:.6g} to {low:.6g} J: its driver was loaded "
                "again; what was measured across that moment must be measured again"
            )
        return units * self._joules_per_unit


def update_period_seconds(read: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> float:
    """Return the median time between two steps of a counter, found by watching it.

    Args:
        read: The counter; what it raises passes through.
        clock: Monotonic seconds.
    """
    steps: list[float] = []
    begin, last = clock(), read()
    while clock() - begin < PERIOD_SEARCH_SECONDS:
        now = read()
        if now != last:
            steps.append(clock())
            last = now
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    return statistics.median(gaps) if gaps else _DEFAULT_PERIOD_SECONDS
