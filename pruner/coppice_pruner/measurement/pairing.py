"""Whether two windows next to each other met the same device. If not, their ratio says something of the device."""

from __future__ import annotations

from coppice_pruner.measurement.reading import Reading

MAX_TEMPERATURE_DRIFT_CELSIUS = 5.0
"""Warm silicon leaks more: within so many degrees that stays below what a pair tells apart. Ours; no standard says."""
MAX_CLOCK_DRIFT_RATIO = 0.05
"""Power rises faster than the clock, since the voltage rises with it; boost steps are 1 % apart. Ours, too."""


def fault(one: Reading, other: Reading) -> str:
    """Return why a pair of windows is no fair one, empty where it is. What a meter does not tell rejects nothing."""
    first, second = one.conditions, other.conditions
    if first.temperature_celsius is not None and second.temperature_celsius is not None:
        degrees = abs(first.temperature_celsius - second.temperature_celsius)
        if degrees > MAX_TEMPERATURE_DRIFT_CELSIUS:
            return f"temperature drifted by more than {MAX_TEMPERATURE_DRIFT_CELSIUS:g} °C within a pair"
    clocks = first.clock_mhz, second.clock_mhz
    if clocks[0] and clocks[1] and abs(clocks[0] / clocks[1] - 1.0) > MAX_CLOCK_DRIFT_RATIO:
        return f"clock drifted by more than {MAX_CLOCK_DRIFT_RATIO:.0%} within a pair"
    company = first.other_processes, second.other_processes
    if None not in company and company[0] != company[1]:
        return "another process came to the device or left it within a pair"
    return ""
