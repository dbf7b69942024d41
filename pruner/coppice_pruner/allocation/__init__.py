"""Chooses which channels stay. Values in, values out: nothing here sees a model or a meter.

`make_allocator` gives the mode of the spec; the loop hands it an `AllocationContext` and a step. `equation3` has the
paper's modes in both readings, `knapsack` chooses all widths at once against a predicted energy, `per_joule` greedily,
and `baselines` knows nothing of energy.
"""

from coppice_pruner.allocation.allocator import Allocator, make_allocator
from coppice_pruner.allocation.baselines import Magnitude, Uniform
from coppice_pruner.allocation.context import AllocationContext, EnergyModel, GroupState, Kept, Widths
from coppice_pruner.allocation.equation3 import Paper, PaperCorrected
from coppice_pruner.allocation.knapsack import Knapsack
from coppice_pruner.allocation.per_joule import PerJoule

__all__ = [
    "AllocationContext",
    "Allocator",
    "EnergyModel",
    "GroupState",
    "Kept",
    "Knapsack",
    "Magnitude",
    "Paper",
    "PaperCorrected",
    "PerJoule",
    "Uniform",
    "Widths",
    "make_allocator",
]
