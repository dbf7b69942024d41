"""What a meter is: a counter of joules that only grows, and what it says of the device it counts for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from coppice_api.base import Provenance
from coppice_pruner.errors import PrunerError


class MeterUnavailableError(PrunerError):
    """This meter cannot count here; the message says why and what to do."""


class MigRefusedError(MeterUnavailableError):
    """The GPU is cut into MIG instances, for which NVML counts no energy."""


class CounterStuckError(PrunerError):
    """The counter went backwards or disappeared while it was read."""


@dataclass(frozen=True)
class DeviceConditions:
    """The state of a device at one moment; None where the meter does not know."""

    temperature_celsius: float | None = None
    clock_mhz: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    """Only those that slow the device against its will; a power limit set on purpose is not one."""

    @property
    def throttled(self) -> bool:
        """Whether a window taken now says little about the model."""
        return bool(self.throttle_reasons)


class Meter(Protocol):
    """A counter of joules."""

    name: str
    """nvml, estimate or replay."""
    device: str
    """What it counts for, with the figures that went into an estimate."""
    provenance: Provenance
    update_period_seconds: float
    """Time between two steps of the counter; 0 where it moves continuously."""

    def read_joules(self) -> float:
        """Return the energy used so far, from any starting point."""
        ...

    def conditions(self) -> DeviceConditions:
        """Return the state of the device now."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...
