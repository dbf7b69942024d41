"""The invariant that finds what goes wrong in structural pruning without a word.

A sliced model must give what the dense model gives when the removed channels are masked where they are read.
The mask zeroes the weights of the reading modules, which is independent of how slicing is done: a head whose
size attribute stayed, or a query group cut apart from its keys, shows as a difference.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from coppice_pruner.errors import InvariantViolatedError
from coppice_pruner.surgery.dependency import Dependencies
from coppice_pruner.surgery.groups import find_groups
from coppice_pruner.surgery.prune import removed_channels

TOLERANCE = 1e-3
"""Greatest relative difference that summing in another order explains, in float32."""


def masked_dense_difference(
    dense: nn.Module, pruned: nn.Module, kept: Mapping[str, Sequence[int]], inputs: tuple[Tensor, ...]
) -> float:
    """Return the greatest difference of the two models' outputs, relative to the largest output.

    Args:
        dense: The model before slicing.
        pruned: The model after slicing.
        kept: What `prune` was told, indices into the dense model's widths.
        inputs: One batch, shapes (N, ...).
    """
    masked = copy.deepcopy(dense).eval()
    dependencies = Dependencies(masked, inputs)
    widths = {group.name: group.width for group in find_groups(masked, inputs)}
    with torch.no_grad():
        for name, indices in kept.items():
            removed = removed_channels(name, widths[name], indices)
            for member in dependencies.group(name, removed) if removed else ():
                if not member.produces:
                    weight = member.module.weight
                    if isinstance(weight, Tensor):
                        weight[:, list(member.indices)] = 0.0
        training = pruned.training
        want = masked(*inputs)
        got = pruned.eval()(*inputs)
        pruned.train(training)
    scale = max(float(want.abs().max()), 1e-12)
    return float((got - want).abs().max()) / scale


def check_invariant(
    dense: nn.Module, pruned: nn.Module, kept: Mapping[str, Sequence[int]], inputs: tuple[Tensor, ...]
) -> None:
    """Raise unless the pruned model is the masked dense model.

    Raises:
        InvariantViolatedError: With the groups that were pruned and the difference found.
    """
    difference = masked_dense_difference(dense, pruned, kept, inputs)
    # Written so that NaN fails too.
    if not difference <= TOLERANCE:
        raise InvariantViolatedError(
            f"slicing {', '.join(kept)} changed the outputs by {difference:.2g} of their size against the dense model "
            f"with those channels masked (allowed: {TOLERANCE:g}); nothing was kept of this step"
        )
