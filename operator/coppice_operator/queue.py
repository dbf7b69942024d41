"""The work queue: one pass over a key at a time, many keys at once, back-off after failures."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_BACK_OFF_SECONDS = 0.5
LAST_BACK_OFF_SECONDS = 60.0
_JITTER = 0.2


@dataclass(frozen=True, order=True)
class Key:
    """What a pass is about."""

    kind: str
    namespace: str
    name: str


class WorkQueue:
    """Keys with the time at which each is due.

    A key that is added while it is worked on is due again when that is done; one that waits keeps its earlier time.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._active: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()
        self._released = asyncio.Event()
        self._closed = False

    def add(self, key: Key, after_seconds: float = 0.0) -> None:
        """Have a key worked on, now or later."""
        due = self._clock() + after_seconds
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))
            self._changed.set()

    async def get(self) -> Key:
        """Return the next key that is due; `done` or `failed` must follow."""
        while True:
            self._changed.clear()
            key, wait_seconds = (None, None) if self._closed else self._next()
            if key is not None:
                del self._due[key]
                self._active.add(key)
                return key
            try:
                # Not wait_for: before Python 3.12 that loses a cancellation in the moment of a change.
                async with asyncio.timeout(wait_seconds):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key, after_seconds: float | None = None) -> None:
        """Say that a pass went well, and when to look again."""
        self._failures.pop(key, None)
        self._release(key)
        if after_seconds is not None:
            self.add(key, after_seconds)

    def failed(self, key: Key, first_seconds: float = FIRST_BACK_OFF_SECONDS) -> float:
        """Say that a pass failed; it is tried again after the seconds returned, twice as many each time."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        wait: float = min(LAST_BACK_OFF_SECONDS, first_seconds * 2 ** min(count, 16))
        wait *= 1 + _JITTER * random.random()  # noqa: S311 - spreads retries
        self._release(key)
        self.add(key, wait)
        return wait

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a key whose object is gone."""
        self._failures.pop(key, None)

    def clear(self) -> None:
        """Forget everything: whoever works next begins with a look at every object."""
        for held in (self._due, self._heap, self._active, self._failures):
            held.clear()
        self._closed = False

    async def drain(self) -> None:
        """Give out nothing more, and return when nothing is worked on."""
        self._closed = True
        while self._active:
            self._released.clear()
            await self._released.wait()

    def __len__(self) -> int:
        """Return how many keys are due now."""
        now = self._clock()
        return sum(due <= now for due in self._due.values())

    def oldest_seconds(self) -> float:
        """Return for how long the longest waiting key has been due."""
        now = self._clock()
        return max((now - due for due in self._due.values() if due <= now), default=0.0)

    def _next(self) -> tuple[Key | None, float | None]:
        """Return a key that is due, or how long until there may be one; None waits for a change."""
        now = self._clock()
        held: list[tuple[float, Key]] = []
        found, wait = None, None
        while self._heap:
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) != due:
                # Outrun by an earlier time.
                continue
            if key in self._active:
                held.append((due, key))
                continue
            if due <= now:
                found = key
            else:
                held.append((due, key))
                wait = due - now
            break
        for item in held:
            heapq.heappush(self._heap, item)
        return found, wait

    def _release(self, key: Key) -> None:
        self._active.discard(key)
        self._changed.set()
        self._released.set()
