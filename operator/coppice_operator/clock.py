"""The wall clock, and since when it runs as clocks should.

Deadlines of a rollout count from moments that its status holds, written by the wall clock. Somebody who sets that clock
moves them all: a day forward, and every deadline has passed. The monotonic clock tells: where the two moved apart, the
wall clock was set, and what was written before counts from then on anew.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from coppice_operator.leader import seconds

STEP = timedelta(seconds=5)
"""A difference of this much is a step. A clock that is merely adjusted gains 0.5 ms in a second."""


def wall() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


class Clock:
    """Both clocks, read together.

    Args:
        now: The wall clock.
        steady: Monotonic seconds.
    """

    def __init__(self, now: Callable[[], datetime] = wall, steady: Callable[[], float] = seconds) -> None:
        self._now, self._steady = now, steady
        self._last = now(), steady()
        self.set_at: datetime | None = None
        """When the wall clock was last set, in whole seconds as a status holds them; None while nobody has."""

    def now(self) -> datetime:
        """Return the time, and notice whether the clock was set since it was last asked for."""
        (before, before_seconds), (now, now_seconds) = self._last, (self._now(), self._steady())
        self._last = now, now_seconds
        if abs(now - before - timedelta(seconds=now_seconds - before_seconds)) > STEP:
            self.set_at = now.replace(microsecond=0)
        return now
