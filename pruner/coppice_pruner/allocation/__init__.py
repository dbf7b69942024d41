"""Chooses which channels stay. Values in, values out: nothing here sees a model or a meter.

`scoring` has equation 3 in both readings and the greedy removal by score; `knapsack` chooses all widths at once
against a predicted energy. The loop calls `propose` with a step and gets the channels to keep.
"""

from coppice_pruner.allocation.context import AllocationContext, Layer, predicted_energy
from coppice_pruner.allocation.knapsack import knapsack
from coppice_pruner.allocation.propose import propose
from coppice_pruner.allocation.scoring import layer_importance, remove_lowest

__all__ = ["AllocationContext", "Layer", "knapsack", "layer_importance", "predicted_energy", "propose", "remove_lowest"]
