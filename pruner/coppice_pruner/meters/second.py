"""A second way to the same joules, to hold a meter against."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from coppice_pruner.meters.base import Meter, MeterUnavailableError, PowerSource
from coppice_pruner.meters.estimate import open_estimate
from coppice_pruner.meters.integral import PowerIntegral
from coppice_pruner.meters.rapl import RaplMeter


class JouleCounter(Protocol):
    """What the second way gives."""

    def read_joules(self) -> float:
        """Return the energy so far, from any starting point."""
        ...


@dataclass(frozen=True)
class Second:
    """The second way, while it is open."""

    counter: AbstractContextManager[JouleCounter]
    source: str
    """For a person, such as "power samples"."""
    active_only: bool = False
    """Whether it leaves out what the device draws without work."""


def second_of(meter: Meter) -> Second | None:
    """Return the second way to a meter's joules; None where there is none, as for an estimate.

    A GPU's counter is held against its own power readings summed up, RAPL against the estimate from CPU time.
    """
    if isinstance(meter, RaplMeter):
        return Second(contextlib.nullcontext(open_estimate()), "the estimate from CPU time", active_only=True)
    if not isinstance(meter, PowerSource):
        return None
    try:
        meter.power_watts()
    except MeterUnavailableError:
        return None
    return Second(PowerIntegral(meter), "its power readings, summed up")
