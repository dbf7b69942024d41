"""The paper's saliency (Algorithm 1, line 6): the L2 norm of a channel's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coppice_pruner.surgery import ChannelGroup, coupled_sum, weight_OI


def l2_scores(model: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, Tensor]:
    """Score each channel of each group by the norm of the weights that produce it.

    The squares of coupled layers (joined by a residual connection, or a depthwise convolution on the way) are added
    before the root is taken.

    Args:
        model: The model; not changed.
        groups: Of this model.

    Returns:
        For each group, scores of shape (width,), float32, zero or more; larger means keep.

    Source: Algorithm 1, line 6.
    """
    scores = {}
    for group in groups:
        squares_O = torch.zeros(group.width)
        for coupling in group.couplings:
            if coupling.module in group.layers:
                weight = weight_OI(model.get_submodule(coupling.module)).detach().float()
                squares_O += coupled_sum(coupling, weight.flatten(1).square().sum(dim=1))
        scores[group.name] = squares_O.sqrt()
    return scores
