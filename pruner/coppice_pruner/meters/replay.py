"""A recorded counter, for tests and for looking at a run again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from coppice_api.base import Provenance
from coppice_pruner.meters.base import CounterStuckError, DeviceConditions


class ReplayMeter:
    """Gives one recorded value at each reading.

    Args:
        joules: Cumulative, never falling.
        conditions: One for each time they are asked for; none when it runs out.
        update_period_seconds: Of the recorded counter.
    """

    name = "replay"
    device = "a recording"
    provenance = Provenance.SIMULATED

    def __init__(
        self,
        joules: Iterable[float],
        *,
        conditions: Iterable[DeviceConditions] = (),
        update_period_seconds: float = 0.0,
    ) -> None:
        self._joules: Iterator[float] = iter(joules)
        self._conditions = iter(conditions)
        self.update_period_seconds = update_period_seconds

    def read_joules(self) -> float:
        """Return the next value.

        Raises:
            CounterStuckError: If the recording has ended.
        """
        try:
            return next(self._joules)
        except StopIteration:
            raise CounterStuckError("the recording has ended") from None

    def conditions(self) -> DeviceConditions:
        """Return the next recorded conditions."""
        return next(self._conditions, DeviceConditions())

    def close(self) -> None:
        """Nothing to let go of."""
