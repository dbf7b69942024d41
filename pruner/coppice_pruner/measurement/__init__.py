"""What a whole model costs, and whether another one costs less.

Belongs here: windows aligned to the meter's counter, which of them count, interleaved comparisons with their interval,
idle power, the check against a second meter, and the paper's metrics. Does not belong here: the meters, and single
layers (profiling).
"""

from coppice_pruner.measurement.circumstances import Circumstances, circumstances_of, warnings_of
from coppice_pruner.measurement.comparison import (
    Comparison,
    average,
    compare,
    interleaved,
    many_short,
    of_readings,
)
from coppice_pruner.measurement.cross_check import MeterCheck, cross_check
from coppice_pruner.measurement.idle import idle_power_watts
from coppice_pruner.measurement.paper_metrics import MixedProvenanceError, PaperMetrics, paper_metrics
from coppice_pruner.measurement.reading import FEW_TICKS, MIN_TICKS, Reading, take_reading
from coppice_pruner.measurement.workload import Workload, answer_workload, model_workload, one_thread

__all__ = [
    "FEW_TICKS",
    "MIN_TICKS",
    "Circumstances",
    "Comparison",
    "MeterCheck",
    "MixedProvenanceError",
    "PaperMetrics",
    "Reading",
    "Workload",
    "answer_workload",
    "average",
    "circumstances_of",
    "compare",
    "cross_check",
    "idle_power_watts",
    "interleaved",
    "many_short",
    "model_workload",
    "of_readings",
    "one_thread",
    "paper_metrics",
    "take_reading",
    "warnings_of",
]
