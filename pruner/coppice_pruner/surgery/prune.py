"""Slices a model: keeps some channels of some groups, or drops a branch whose channels all go."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.surgery.attention import set_head_count
from coppice_pruner.surgery.branch import DroppedAttention, constant_of, remove_dead
from coppice_pruner.surgery.dependency import Side, cut, evaluating
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
    removals = [(named(groups, name), removed_channels(named(groups, name), indices)) for name, indices in kept.items()]
    return slice_copy(model, removals, example_inputs)


def slice_copy(
    model: nn.Module, removals: Sequence[tuple[ChannelGroup, Sequence[int]]], example_inputs: tuple[Tensor, ...],
    *, shared: bool = False,
) -> nn.Module:  # fmt: skip
    """Return a copy of the model without some channels of some of its groups; a group that loses all is dropped.

    Args:
        model: Not changed.
        removals: Groups of the model, each with the channels that go.
        example_inputs: One batch.
        shared: Whether what is not cut is the model's own tensors: for a look, not for training.
    """
    # A cut makes new parameters, it never writes into those there were.
    own = itertools.chain(model.parameters(), model.buffers()) if shared else ()
    pruned = copy.deepcopy(model, {id(item): item for item in own})
    narrowed = [(group, channels) for group, channels in removals if len(channels) < group.width]
    dropped = [group for group, channels in removals if len(channels) == group.width]
    for group, channels in narrowed:
        if group.attention is not None and channels:
            owner, queries = pruned.get_submodule(group.attention.owner), group.attention.queries_each
            set_head_count(
                owner, group.width * queries, (group.width - len(channels)) * queries, group.attention.head_size
            )
    cut(pruned, removed_places(narrowed))
    for group in dropped:
        _drop(pruned, group)
    if dropped:
        with evaluating(pruned):
            remove_dead(pruned, example_inputs)
    return pruned


def removed_places(removals: Iterable[tuple[ChannelGroup, Sequence[int]]]) -> dict[tuple[str, Side], list[int]]:
    """Return what modules lose when groups lose channels: for each side that does, indices into its channels."""
    removed: dict[tuple[str, Side], set[int]] = {}
    for group, channels in removals:
        for coupling in group.couplings:
            indices = removed.setdefault((coupling.module, coupling.side), set())
            indices.update(index for channel in channels for index in coupling.channels[channel])
    return {place: sorted(indices) for place, indices in removed.items() if indices}


def removed_channels(group: ChannelGroup, kept: Sequence[int], *, may_drop: bool = False) -> list[int]:
    """Return the complement of `kept`.

    Raises:
        InputRefusedError: If `kept` repeats itself, cuts an atom apart, leaves the range 0..width-1, or is empty where
            the group may not be dropped.
    """
    chosen = set(kept)
    if not chosen and may_drop:
        return list(range(group.width))
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


def named(groups: Mapping[str, ChannelGroup], name: str) -> ChannelGroup:
    """Return a group by its name.

    Raises:
        InputRefusedError: If there is none.
    """
    if name not in groups:
        raise InputRefusedError(f"pruning plan: no group named {name!r}; the model has {', '.join(groups)}")
    return groups[name]


def _drop(model: nn.Module, group: ChannelGroup) -> None:
    attention = group.attention
    if attention is not None:
        bias = constant_of(model.get_submodule(attention.output)).bias.detach()
        inside = attention.output.startswith(f"{attention.owner}.")
        if not inside:
            model.set_submodule(attention.output, constant_of(model.get_submodule(attention.output)))
        model.set_submodule(attention.owner, DroppedAttention(bias if inside else None))
        return
    for reader in group.consumers:
        model.set_submodule(reader, constant_of(model.get_submodule(reader)))
