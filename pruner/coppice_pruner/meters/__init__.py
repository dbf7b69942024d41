"""Counters of joules behind one protocol. Meters know no model.

Belongs here: NVML, the estimate from CPU time, replay, and choosing between them. Does not belong here: windows and
comparisons (measurement), layers (profiling).
"""

from coppice_pruner.meters.base import (
    CounterStuckError,
    DeviceConditions,
    Meter,
    MeterUnavailableError,
    MigRefusedError,
)
from coppice_pruner.meters.estimate import EstimateMeter
from coppice_pruner.meters.replay import ReplayMeter
from coppice_pruner.meters.select import MeasurementImpossibleError, select_meter

__all__ = [
    "CounterStuckError",
    "DeviceConditions",
    "EstimateMeter",
    "MeasurementImpossibleError",
    "Meter",
    "MeterUnavailableError",
    "MigRefusedError",
    "ReplayMeter",
    "select_meter",
]
