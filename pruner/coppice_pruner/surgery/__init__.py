"""Removes channels from a model, and proves that nothing else changed.

Belongs here: the one adapter around Torch-Pruning's dependency graph, and the masked-dense invariant. Does not
belong here: which channels to remove (allocation) or how much they matter (saliency).
"""

from coppice_pruner.surgery.groups import ChannelGroup, find_groups
from coppice_pruner.surgery.invariant import check_invariant, masked_dense_difference
from coppice_pruner.surgery.plan import apply_plan, compose, to_steps
from coppice_pruner.surgery.prune import prune

__all__ = [
    "ChannelGroup",
    "apply_plan",
    "check_invariant",
    "compose",
    "find_groups",
    "masked_dense_difference",
    "prune",
    "to_steps",
]
