"""What a meter is: a counter of joules that only grows, and what it says of the device it counts for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from coppice_api.base import Provenance
from coppice_pruner.errors import PrunerError


class MeterUnavailableError(PrunerError):
    """This meter cannot count here; the message says why and what to do."""


class MigRefusedError(MeterUnavailableError):
    """The GPU is cut into MIG instances, for which NVML counts no energy."""


class CounterStuckError(PrunerError):
    """The counter disappeared while it was read, or did not move."""


class CounterFellError(CounterStuckError):
    """The counter went backwards: what was used meanwhile is lost, and it counts on from there."""


@dataclass(frozen=True)
class DeviceConditions:
    """The state of a device at one moment; None where the meter does not know."""

    temperature_celsius: float | None = None
    clock_mhz: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    default_power_limit_watts: float | None = None
    """What the maker ships it with; a lower `power_limit_watts` was set by somebody."""
    power_capped: bool | None = None
    """Whether the limit holds the clock back now. That is how a capped card runs in production, so it is recorded and
    no reason to reject a window."""
    throttle_reasons: tuple[str, ...] | None = None
    """Only those that slow the device against its will; a power limit set on purpose is not one. Empty: asked, and
    there are none. None: it could not be asked, so nobody knows."""
    other_processes: int | None = None
    """Processes on the device that are not this one."""
    foreign_cpu_seconds: float | None = None
    """CPU time that everything else on this machine has used so far, from any starting point."""

    @property
    def throttled(self) -> bool:
        """Whether a window taken now is known to say little about the model."""
        return bool(self.throttle_reasons)


class Meter(Protocol):
    """A counter of joules."""

    name: str
    """nvml, rocm, rapl, estimate or replay."""
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


@runtime_checkable
class PowerSource(Protocol):
    """A meter that also knows its device's power at this moment, which is a second way to its energy."""

    def power_watts(self) -> float:
        """Return the power now.

        Raises:
            MeterUnavailableError: If the device does not tell.
        """
        ...
