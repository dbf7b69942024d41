"""Removes channels from a model, and proves that nothing else changed.

Belongs here: the one adapter around Torch-Pruning's dependency graph, and the masked-dense invariant. Does not
belong here: which channels to remove (allocation) or how much they matter (saliency).
"""

from coppice_pruner.surgery.attention import Attention, find_attention
from coppice_pruner.surgery.blueprint import Blueprint
from coppice_pruner.surgery.branch import Constant
from coppice_pruner.surgery.dependency import Coupling, Side, coupled_sum, evaluating
from coppice_pruner.surgery.groups import ChannelGroup
from coppice_pruner.surgery.inspection import Inspection, Refusal, find_groups, inspect_groups
from coppice_pruner.surgery.invariant import TOLERANCE, check_invariant, mask, masked_dense_difference
from coppice_pruner.surgery.layers import (
    CONVOLUTIONS,
    is_depthwise,
    is_layer,
    is_transposed_linear,
    layer_widths,
    weight_OI,
)
from coppice_pruner.surgery.plan import apply_plan, compose, restrict, to_steps
from coppice_pruner.surgery.prune import prune
from coppice_pruner.surgery.refit import Moments, input_channels, input_moments, refit, refitted

__all__ = [
    "CONVOLUTIONS",
    "TOLERANCE",
    "Attention",
    "Blueprint",
    "ChannelGroup",
    "Constant",
    "Coupling",
    "Inspection",
    "Moments",
    "Refusal",
    "Side",
    "apply_plan",
    "check_invariant",
    "compose",
    "coupled_sum",
    "evaluating",
    "find_attention",
    "find_groups",
    "input_channels",
    "input_moments",
    "inspect_groups",
    "is_depthwise",
    "is_layer",
    "is_transposed_linear",
    "layer_widths",
    "mask",
    "masked_dense_difference",
    "prune",
    "refit",
    "refitted",
    "restrict",
    "to_steps",
    "weight_OI",
]
