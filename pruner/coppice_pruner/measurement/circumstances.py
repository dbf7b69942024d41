"""The device while a comparison was measured: what a reader must know before believing its joules."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from coppice_pruner.measurement.comparison import Comparison
from coppice_pruner.measurement.cross_check import MeterCheck
from coppice_pruner.meters import Meter, RaplMeter

FOREIGN_CORES = 0.1
"""Work of others that is worth a word where a meter counts it: a kernel's own housekeeping stays below."""


@dataclass(frozen=True)
class Circumstances:
    """Over all windows that count; None where the meter does not know. Ranges are (least, greatest)."""

    windows: int
    temperature_celsius: tuple[float, float] | None
    clock_mhz: tuple[float, float] | None
    power_limit_watts: float | None
    default_power_limit_watts: float | None
    capped_windows: int | None
    """Windows at whose end the power limit held the clock back."""
    throttling_known: bool
    """Whether the device was asked about throttling at every window's end, and answered."""
    other_processes: int | None
    """On the device, at most."""
    foreign_cores: float | None
    """Kept busy by others, in the median window."""
    rejected: Mapping[str, int]
    """Windows thrown away, by reason."""
    doubts: Mapping[str, int]
    """Pairs kept in spite of it, by reason."""

    @property
    def power_limited(self) -> bool:
        """Whether somebody set a limit below the maker's."""
        limit, default = self.power_limit_watts, self.default_power_limit_watts
        return limit is not None and default is not None and limit < default


def circumstances_of(comparison: Comparison) -> Circumstances:
    """Return the device's state over a comparison."""
    readings = comparison.readings
    seen = [reading.conditions for reading in readings]
    capped = [item.power_capped for item in seen if item.power_capped is not None]
    others = [item.other_processes for item in seen if item.other_processes is not None]
    cores = [reading.foreign_cores for reading in readings if reading.foreign_cores is not None]
    return Circumstances(
        windows=len(readings),
        temperature_celsius=_range(item.temperature_celsius for item in seen),
        clock_mhz=_range(item.clock_mhz for item in seen),
        power_limit_watts=_least(item.power_limit_watts for item in seen),
        default_power_limit_watts=_least(item.default_power_limit_watts for item in seen),
        capped_windows=sum(capped) if capped else None,
        throttling_known=all(item.throttle_reasons is not None for item in seen),
        other_processes=max(others) if others else None,
        foreign_cores=statistics.median(cores) if cores else None,
        rejected=Counter(comparison.rejected),
        doubts=Counter(comparison.doubts),
    )


def warnings_of(meter: Meter, seen: Circumstances, check: MeterCheck | None) -> tuple[str, ...]:
    """Return what a person must be told beside the result, a sentence each."""
    told = []
    if check is not None and not check.agrees:
        told.append(
            f"the {meter.name} meter counted {check.ratio:.3g} times what {check.source} gives: find out why before "
            "trusting either"
        )
    if isinstance(meter, RaplMeter) and (seen.foreign_cores or 0.0) > FOREIGN_CORES:
        told.append(
            f"other work kept {seen.foreign_cores:.1f} cores busy meanwhile and is in these joules, since RAPL counts "
            "whole sockets: measure on a machine without other pods"
        )
    if seen.other_processes:
        told.append(
            f"the GPU was shared with {seen.other_processes} other process{'es' if seen.other_processes > 1 else ''}, "
            "whose joules are in these"
        )
    told += [f"in {count} of {seen.windows // 2} pairs {why}" for why, count in seen.doubts.items()]
    return tuple(told)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _range(values: Iterable[float | None]) -> tuple[float, float] | None:
    known = _known(values)
    return (min(known), max(known)) if known else None


def _least(values: Iterable[float | None]) -> float | None:
    return min(_known(values), default=None)
