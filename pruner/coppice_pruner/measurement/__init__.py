"""What a whole model costs, and whether another one costs less.

Belongs here: windows aligned to the meter's counter, interleaved comparisons with their interval, and the paper's
metrics. Does not belong here: the meters, and single layers (profiling).
"""

from coppice_pruner.measurement.comparison import Comparison, average, compare
from coppice_pruner.measurement.paper_metrics import MixedProvenanceError, PaperMetrics, paper_metrics
from coppice_pruner.measurement.reading import MIN_TICKS, Reading, take_reading
from coppice_pruner.measurement.workload import Workload, model_workload, one_thread

__all__ = [
    "MIN_TICKS",
    "Comparison",
    "MixedProvenanceError",
    "PaperMetrics",
    "Reading",
    "Workload",
    "average",
    "compare",
    "model_workload",
    "one_thread",
    "paper_metrics",
    "take_reading",
]
