"""Where the joules go now, and where they would go at other widths.

Belongs here: replaying layers under a meter (`layers`), timing them on a grid of widths (`grid`), and predicting from
both (`cost_model`). Does not belong here: the meters, and choosing widths (allocation).
"""

from coppice_pruner.profiling.cost_model import Axis, CostModel, LayerCost, Observation, Table
from coppice_pruner.profiling.grid import build_cost_model
from coppice_pruner.profiling.layers import LayerProfile, profile_layers
from coppice_pruner.profiling.window import EnergyCounter, Window, measure_window

__all__ = [
    "Axis",
    "CostModel",
    "EnergyCounter",
    "LayerCost",
    "LayerProfile",
    "Observation",
    "Table",
    "Window",
    "build_cost_model",
    "measure_window",
    "profile_layers",
]
