"""Slices a model: keeps some channels of some groups."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.surgery.dependency import Dependencies
from coppice_pruner.surgery.groups import find_groups


def prune(model: nn.Module, example_inputs: tuple[Tensor, ...], kept: Mapping[str, Sequence[int]]) -> nn.Module:
    """Return a copy of the model that has only the kept channels.

    Args:
        model: The model; not changed.
        example_inputs: One batch, shapes (N, ...).
        kept: For each group to change, the channels that stay, as indices into its width now.

    Raises:
        InputRefusedError: If a group is unknown, an index is out of range, or nothing would be left of a group.
        SurgeryRefusedError: If the model cannot be pruned.
    """
    groups = {group.name: group for group in find_groups(model, example_inputs)}
    pruned = copy.deepcopy(model)
    for name, indices in kept.items():
        if name not in groups:
            raise InputRefusedError(f"pruning plan: no group named {name!r}; the model has {', '.join(groups)}")
        removed = removed_channels(name, groups[name].width, indices)
        if removed:
            # Index mappings through concatenations change with every removal, so the graph is built anew.
            Dependencies(pruned, example_inputs).remove(name, removed)
    return pruned


def removed_channels(name: str, width: int, kept: Sequence[int]) -> list[int]:
    """Return the complement of `kept`.

    Raises:
        InputRefusedError: If `kept` is empty, repeats itself or leaves the range 0..width-1.
    """
    chosen = set(kept)
    if not chosen or len(chosen) != len(kept) or min(chosen) < 0 or max(chosen) >= width:
        raise InputRefusedError(
            f"pruning plan: group {name!r} has channels 0..{width - 1}; kept channels must be some of them, each once, "
            f"and at least one (found {len(kept)} indices, from {min(kept, default=None)} to {max(kept, default=None)})"
        )
    return [index for index in range(width) if index not in chosen]
