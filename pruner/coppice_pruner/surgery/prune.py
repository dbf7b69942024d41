"""Slices a model: keeps some channels of some groups."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.surgery.dependency import Side, cut
from coppice_pruner.surgery.groups import ChannelGroup, prunable


def prune(model: nn.Module, example_inputs: tuple[Tensor, ...], kept: Mapping[str, Sequence[int]]) -> nn.Module:
    """Return a copy of the model that has only the kept channels.

    Args:
        model: The model; not changed.
        example_inputs: One batch, shapes (N, ...).
        kept: For each group to change, the channels that stay, as indices into its width now.

    Raises:
        InputRefusedError: If a group is unknown, an index is out of range, an atom is cut apart, or nothing would
            be left of a group.
        SurgeryRefusedError: If the model cannot be traced.
    """
    groups = prunable(model, example_inputs)
    removals = [
        (_named(groups, name), removed_channels(_named(groups, name), indices)) for name, indices in kept.items()
    ]
    return slice_copy(model, removals)


def slice_copy(model: nn.Module, removals: Iterable[tuple[ChannelGroup, Sequence[int]]]) -> nn.Module:
    """Return a copy of the model without some channels of some of its groups."""
    removed: dict[tuple[str, Side], set[int]] = {}
    for group, channels in removals:
        for coupling in group.couplings:
            indices = removed.setdefault((coupling.module, coupling.side), set())
            indices.update(index for channel in channels for index in coupling.channels[channel])
    pruned = copy.deepcopy(model)
    cut(pruned, {place: sorted(indices) for place, indices in removed.items() if indices})
    return pruned


def removed_channels(group: ChannelGroup, kept: Sequence[int]) -> list[int]:
    """Return the complement of `kept`.

    Raises:
        InputRefusedError: If `kept` is empty, repeats itself, cuts an atom apart or leaves the range 0..width-1.
    """
    chosen = set(kept)
    if not chosen or len(chosen) != len(kept) or min(chosen) < 0 or max(chosen) >= group.width:
        raise InputRefusedError(
            f"pruning plan: group {group.name!r} has channels 0..{group.width - 1}; kept channels must be some of "
            f"them, each once, and at least one (found {len(kept)} indices, from {min(kept, default=None)} to "
            f"{max(kept, default=None)})"
        )
    for atom in group.atoms if group.atom > 1 else ():
        if 0 < len(chosen.intersection(atom)) < len(atom):
            raise InputRefusedError(
                f"pruning plan: group {group.name!r} feeds or leaves a convolution in {group.atom} groups; its "
                f"channels {', '.join(map(str, atom))} must stay or go together"
            )
    return [index for index in range(group.width) if index not in chosen]


def _named(groups: Mapping[str, ChannelGroup], name: str) -> ChannelGroup:
    if name not in groups:
        raise InputRefusedError(f"pruning plan: no group named {name!r}; the model has {', '.join(groups)}")
    return groups[name]
