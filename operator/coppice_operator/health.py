"""What probes ask: whether the loop moves, the caches are filled, and this replica leads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

BEAT_SECONDS = 1.0
STALL_SECONDS = 10.0
"""A loop that stands still for so long fails the liveness probe. No pass takes a tenth of it between two awaits."""


class Health:
    """The state of this process.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_beat = clock()
        self.synced = False
        """Every cache was filled once; watches keep it so."""
        self.leading = False
        """This replica works the queue; the others only watch."""
        self.late_seconds = 0.0
        """Sum of how late the beats were: what the loop did not get to."""

    async def beat(self) -> None:
        """Beat for ever."""
        while True:
            due = self._clock() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._last_beat = self._clock()
            self.late_seconds += max(0.0, self._last_beat - due)

    def stalled_seconds(self) -> float:
        """Return for how long there has been no beat that should have been."""
        return max(0.0, self._clock() - self._last_beat - BEAT_SECONDS)

    def why_dead(self) -> str | None:
        """Return why the process should be restarted, or None."""
        stalled = self.stalled_seconds()
        return None if stalled < STALL_SECONDS else f"the event loop has not moved for {stalled:.0f} s"

    def why_not_ready(self) -> str | None:
        """Return what is missing, or None. A replica that stands by is ready: it can lead at any moment."""
        return None if self.synced else "caches are being filled"
