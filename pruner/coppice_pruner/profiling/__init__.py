"""Where the joules go now, and where they would go at other widths.

Belongs here: replaying layers under a meter (`layers`), timing them on a grid of widths (`grid`) kept on disk
(`store`), predicting from both (`cost_model`), and measuring again what was predicted (`remeasure`). Does not belong
here: the meters, and choosing widths (allocation).
"""

from coppice_pruner.profiling.allocator import keep_freed_memory
from coppice_pruner.profiling.cost_model import Axis, CostModel, LayerCost, Observation, Table
from coppice_pruner.profiling.grid import build_cost_model
from coppice_pruner.profiling.layers import LayerProfile, profile_layers
from coppice_pruner.profiling.remeasure import OFF_RATIO, dearest, median_error_ratio, remeasure
from coppice_pruner.profiling.staircase import Staircase
from coppice_pruner.profiling.store import TimesStore, cache_directory, machine_of, user_cache_directory
from coppice_pruner.profiling.timing import time_in_turn
from coppice_pruner.profiling.window import EnergyCounter, Window, measure_window

__all__ = [
    "OFF_RATIO",
    "Axis",
    "CostModel",
    "EnergyCounter",
    "LayerCost",
    "LayerProfile",
    "Observation",
    "Staircase",
    "Table",
    "TimesStore",
    "Window",
    "build_cost_model",
    "cache_directory",
    "dearest",
    "keep_freed_memory",
    "machine_of",
    "measure_window",
    "median_error_ratio",
    "profile_layers",
    "remeasure",
    "time_in_turn",
    "user_cache_directory",
]
