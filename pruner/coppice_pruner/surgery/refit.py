"""What stays takes over what goes: least squares in the layers that read removed channels.

Channels of one layer resemble each other. Before some are removed, each is written as a mixture of those that stay, and
its weights in every reading layer are spent on these; a branch that goes leaves its mean. That is done on a copy before
it is cut, so that the cut is still held to the masked-dense invariant, against the copy.

Worked example: channels a and b with b = 2a, read as 3a + 5b. Without b this would be 3a; after refitting, 13a.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coppice_pruner.surgery.dependency import Side, evaluating
from coppice_pruner.surgery.groups import ChannelGroup
from coppice_pruner.surgery.layers import CONVOLUTIONS, channel_dimension, weight_OI
from coppice_pruner.surgery.prune import removed_places

_ROWS = 8192
"""Positions looked at in each layer; a layer has hundreds of channels, so this is enough to tell them apart."""
_RIDGE = 1e-3
"""Added to the diagonal, relative to its mean: what few samples seem to say is not believed."""


@dataclass(frozen=True)
class Moments:
    """The first two moments of what a layer reads, by its input channels."""

    mean: Tensor
    """Shape (C,)."""
    second: Tensor
    """Shape (C, C), not centred."""


def input_moments(model: nn.Module, layers: Collection[str], inputs: tuple[Tensor, ...]) -> dict[str, Moments]:
    """Return the moments of what some layers read.

    Args:
        model: Run once in eval mode; not changed.
        layers: Names of convolutions and linear layers.
        inputs: Samples, shapes (N, ...).
    """
    found: dict[str, Moments] = {}

    def keep(name: str, module: nn.Module, given: Tensor) -> None:
        rows_RC = given.detach().movedim(channel_dimension(module), -1).flatten(0, -2)
        if len(rows_RC) > _ROWS:
            rows_RC = rows_RC[:: -(-len(rows_RC) // _ROWS)]
        rows_RC = rows_RC.float()
        found[name] = Moments(rows_RC.mean(dim=0).double(), (rows_RC.T @ rows_RC / len(rows_RC)).double())

    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, given, name=name: keep(name, module, given[0])
        )
        for name in layers
    ]
    try:
        with torch.no_grad(), evaluating(model):
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def refit(layer: nn.Module, moments: Moments, gone: Sequence[int]) -> None:
    """Spend, in place, a layer's weights of some input channels on the others.

    The weights of the channels in `gone` are left; whoever calls this removes or masks them.

    Args:
        layer: A convolution that reads all channels in one group, or a linear layer; others are left as they are.
        moments: Of what it reads.
        gone: Input channels.
    """
    if isinstance(layer, CONVOLUTIONS) and layer.groups > 1:
        return
    weight = weight_OI(layer)
    removed = torch.tensor(sorted(gone))
    keeps = torch.ones(weight.shape[1], dtype=torch.bool)
    keeps[removed] = False
    kept = keeps.nonzero().flatten()
    mean, second = moments.mean.cpu(), moments.second.cpu()
    bias = getattr(layer, "bias", None)
    if isinstance(bias, Tensor):
        second = second - mean[:, None] * mean[None, :]
    mixture_DK = torch.zeros(len(removed), len(kept), dtype=torch.float64)
    if len(kept):
        inner = second[kept][:, kept]
        inner = inner + _RIDGE * inner.diagonal().mean().clamp_min(1e-12) * torch.eye(len(kept), dtype=torch.float64)
        mixture_DK = torch.linalg.solve(inner, second[kept][:, removed]).T
    with torch.no_grad():
        lost = weight[:, removed.to(weight.device)].double()
        moved = torch.einsum("od...,dk->ok...", lost, mixture_DK.to(weight.device))
        weight[:, kept.to(weight.device)] += moved.to(weight)
        if isinstance(bias, Tensor):
            rest_D = (mean[removed] - mixture_DK @ mean[kept]).to(weight.device)
            bias += torch.einsum("od,d->o", lost.flatten(2).sum(dim=2) if lost.dim() > 2 else lost, rest_D).to(bias)


def refitted(
    model: nn.Module, removals: Sequence[tuple[ChannelGroup, Sequence[int]]], inputs: tuple[Tensor, ...]
) -> nn.Module:
    """Return a copy of a model whose layers no longer need some channels, as far as the others can stand for them.

    Args:
        model: Not changed.
        removals: Groups of this model, and which of their channels will be removed.
        inputs: Samples, shapes (N, ...); a few hundred.
    """
    gone = input_channels(removals)
    result = copy.deepcopy(model)
    for name, moments in input_moments(model, gone, inputs).items():
        refit(result.get_submodule(name), moments, gone[name])
    return result


def input_channels(removals: Sequence[tuple[ChannelGroup, Sequence[int]]]) -> Mapping[str, list[int]]:
    """Return, for each layer that reads some of the channels, which of its inputs they are."""
    return {name: indices for (name, side), indices in removed_places(removals).items() if side is Side.INPUT}
