"""Children that the API server does not take: what it said, and when it is asked again.

Rights, quotas, policies and webhooks are mended by people, so it is asked again for ever, each time after longer.
What else happens to the parent meanwhile makes nobody ask sooner.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coppice_operator.prunejob.observation import Refusal
from coppice_operator.queue import Key

FIRST_WAIT_SECONDS = 1.0
LAST_WAIT_SECONDS = 60.0
_JITTER = 0.2


@dataclass(frozen=True)
class _Asked:
    children: Mapping[str, str]
    wait_seconds: float
    due: float


class Refusals:
    """Of every object that has children.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[Key, _Asked] = {}

    def of(self, key: Key) -> dict[str, Refusal]:
        """Return the refusals of one parent by the children's names."""
        asked = self._asked.get(key)
        if asked is None:
            return {}
        left = max(0.0, asked.due - self._clock())
        return {name: Refusal(message, left) for name, message in asked.children.items()}

    def note(self, key: Key, children: Mapping[str, str]) -> float:
        """Remember what was said, by the children's names, and return in how many seconds to ask again."""
        before = self._asked.get(key)
        # Those that are not due yet were not asked for.
        kept = before.children if before is not None and self._clock() < before.due else {}
        wait = FIRST_WAIT_SECONDS if before is None else min(LAST_WAIT_SECONDS, 2 * before.wait_seconds)
        spread = wait * (1 + _JITTER * random.random())  # noqa: S311 - spreads retries
        self._asked[key] = _Asked({**kept, **children}, wait, self._clock() + spread)
        return spread

    def forget(self, key: Key) -> None:
        """Forget a parent that is gone, or whose children were all taken."""
        self._asked.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._asked.clear()
