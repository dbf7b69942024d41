"""Counters of joules behind one protocol. Meters know no model.

Belongs here: NVML, ROCm, RAPL, the estimate from CPU time, replay, choosing between them, and a second way to each
one's joules. Does not belong here: windows and comparisons (measurement), layers (profiling).
"""

from coppice_pruner.meters.base import (
    CounterFellError,
    CounterStuckError,
    DeviceConditions,
    Meter,
    MeterUnavailableError,
    MigRefusedError,
    PowerSource,
)
from coppice_pruner.meters.estimate import EstimateMeter
from coppice_pruner.meters.gpu import Gpu, gpu_of
from coppice_pruner.meters.rapl import RaplMeter
from coppice_pruner.meters.replay import ReplayMeter
from coppice_pruner.meters.second import Second, second_of
from coppice_pruner.meters.select import MeasurementImpossibleError, select_meter

__all__ = [
    "CounterFellError",
    "CounterStuckError",
    "DeviceConditions",
    "EstimateMeter",
    "Gpu",
    "MeasurementImpossibleError",
    "Meter",
    "MeterUnavailableError",
    "MigRefusedError",
    "PowerSource",
    "RaplMeter",
    "ReplayMeter",
    "Second",
    "gpu_of",
    "second_of",
    "select_meter",
]
