"""The paper's saliency (Algorithm 1, line 6): the L2 norm of a channel's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coppice_pruner.surgery import ChannelGroup


def l2_scores(model: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, Tensor]:
    """Score each channel of each group by the norm of the weights that produce it.

    The squares of coupled producers (layers joined by a residual connection) are added before the root is taken.

    Returns:
        For each group, scores of shape (width,), float32, zero or more; larger means keep.

    Source: Algorithm 1, line 6.
    """
    scores = {}
    for group in groups:
        squares_O = torch.zeros(group.width)
        for name in group.producers:
            weight = model.get_submodule(name).weight
            if isinstance(weight, Tensor) and weight.shape[0] == group.width:
                squares_O += weight.detach().float().flatten(1).square().sum(dim=1).cpu()
        scores[group.name] = squares_O.sqrt()
    return scores
