"""An event loop whose sleeps take no time: hours of waiting pass in milliseconds, in the order of a real clock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where a loop would wait for its next timer, the clock jumps to it. Nothing here may wait for real input."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0
        self._really_select = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now

    def _jump(self, timeout: float | None) -> Any:
        assert timeout is not None, "everything waits and nothing will happen"
        # Not less than the loop's resolution: a timer that is due must be seen to be.
        self._now += timeout + (1e-9 if timeout else 0)
        return self._really_select(0)


def in_virtual_time(test: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(test)
