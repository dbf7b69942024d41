"""Being told to stop, in a way that no library can swallow.

The signal raises at once, wherever the run is: a window of measurement lasts seconds. But libraries hold bare `except:`
clauses (Torch-Pruning's tracer calls the model again when the first call fails for any reason), so the wish is
remembered too, and asked for wherever the run tells its journal something or ends with an error.
"""

from __future__ import annotations

import signal
from types import FrameType


class Interrupted(BaseException):
    """The run was told to stop; the next one goes on from the last checkpoint.

    Not an Exception, like KeyboardInterrupt.
    """


class Interruption:
    """Whether the run was told to stop."""

    def __init__(self) -> None:
        self.requested = False

    def on(self, *signals: signal.Signals) -> Interruption:
        """Have these signals interrupt the run; main thread only."""
        for number in signals:
            signal.signal(number, self._handle)
        return self

    def check(self) -> None:
        """Raise if the run was told to stop, and something swallowed it.

        Raises:
            Interrupted: Then.
        """
        if self.requested:
            raise Interrupted

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        raise Interrupted
