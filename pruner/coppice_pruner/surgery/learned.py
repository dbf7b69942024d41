"""What one pruned model learned, given to another that was cut from the same model."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from coppice_pruner.surgery.dependency import Side, cut_module
from coppice_pruner.surgery.groups import ChannelGroup
from coppice_pruner.surgery.prune import removed_places

Removals = Sequence[tuple[ChannelGroup, Sequence[int]]]


def teach(model: nn.Module, pupil: nn.Module, cut: Removals, teacher: nn.Module, teachers_cut: Removals) -> None:
    """Give a pruned model the weights of another one wherever both have them; the rest it keeps.

    Args:
        model: What both were cut from.
        pupil: Cut from it by `cut`; changed in place.
        cut: Groups of the model, each with the channels that went.
        teacher: Cut from it by `teachers_cut`, and trained since.
        teachers_cut: Likewise.

    Raises:
        ValueError: If one of the two was not cut so.
    """
    # A group that was dropped left other modules in place of its own, or none.
    places = [
        removed_places((group, channels) for group, channels in removals if len(channels) < group.width)
        for removals in (cut, teachers_cut)
    ]
    others = [dict(pupil.named_modules()), dict(teacher.named_modules())]
    with torch.no_grad():
        for name, module in model.named_modules():
            own, learned = (modules.get(name) for modules in others)
            sizes = {key: item.numel() for key, item in _tensors(module).items()}
            if not sizes or own is None or learned is None or not type(own) is type(learned) is type(module):
                continue
            here, there = (_positions(name, module, removed) for removed in places)
            for key, item in _tensors(own).items():
                _give(f"{name}.{key}", item, here[key], _tensors(learned)[key], there[key], sizes[key])


def _give(name: str, own: Tensor, here: Tensor, learned: Tensor, there: Tensor, size: int) -> None:
    if own.shape != here.shape or learned.shape != there.shape:
        raise ValueError(f"{name} was not cut so: {tuple(own.shape)} and {tuple(learned.shape)}")
    # Where in the teacher's tensor each number of the model's is, if anywhere.
    found = torch.full((size,), -1, device=own.device)
    found[there.flatten()] = torch.arange(there.numel(), device=own.device)
    origin = found[here]
    both = origin >= 0
    own[both] = learned.flatten()[origin[both]]


def _positions(name: str, module: nn.Module, removed: Mapping[tuple[str, Side], Sequence[int]]) -> dict[str, Tensor]:
    """Return, for each of a module's tensors after a cut, the positions of its numbers in the tensor before it."""
    alone = copy.copy(module)
    # Exact up to 2**53, where single precision ends at 16 million.
    counted = {key: _counted(item) for key, item in _tensors(module).items()}
    parameters = {key: nn.Parameter(item) for key, item in counted.items() if key in module._parameters}
    alone._parameters = {**module._parameters, **parameters}
    alone._buffers = {**module._buffers, **{key: item for key, item in counted.items() if key in module._buffers}}
    for side in Side:
        if (name, side) in removed:
            cut_module(alone, side, removed[name, side])
    return {key: item.detach().long() for key, item in _tensors(alone).items()}


def _counted(item: Tensor) -> Tensor:
    return torch.arange(item.numel(), dtype=torch.float64, device=item.device).reshape(item.shape)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    own = itertools.chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
    return {key: item for key, item in own if item.is_floating_point()}
