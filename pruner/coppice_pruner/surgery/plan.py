"""Pruning plans: what several steps amount to, and rebuilding a pruned structure from its bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from coppice_api.bundle import PruningStep
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.surgery.groups import ChannelGroup, prunable
from coppice_pruner.surgery.prune import removed_channels, slice_copy

Kept = dict[str, tuple[int, ...]]


def compose(first: Mapping[str, Sequence[int]], second: Mapping[str, Sequence[int]]) -> Kept:
    """Return one plan for two that follow each other.

    Example: keeping channels (0, 2, 3) and then the second and third of these is keeping (2, 3).

    Args:
        first: Indices into the dense widths.
        second: Indices into the widths that `first` leaves.
    """
    result: Kept = {name: tuple(indices) for name, indices in first.items()}
    for name, indices in second.items():
        result[name] = tuple(result[name][index] for index in indices) if name in result else tuple(indices)
    return result


def restrict(whole: Mapping[str, Sequence[int]], first: Mapping[str, Sequence[int]]) -> Kept:
    """Return the plan that leads from `first` to `whole`, which keeps nothing else: compose(first, it) is `whole`."""
    return {
        name: tuple(first[name].index(index) for index in indices) if name in first else tuple(indices)
        for name, indices in whole.items()
    }


def to_steps(kept: Mapping[str, Sequence[int]], dense_groups: Sequence[ChannelGroup]) -> tuple[PruningStep, ...]:
    """Return a plan as a bundle's manifest writes it."""
    widths = {group.name: group.width for group in dense_groups}
    return tuple(
        PruningStep(group=name, kept=tuple(indices), width=widths[name])
        for name, indices in kept.items()
        if len(indices) < widths[name]
    )


def apply_plan(dense: nn.Module, example_inputs: tuple[Tensor, ...], steps: Sequence[PruningStep]) -> nn.Module:
    """Return a copy of the dense model with the structure of a plan; its weights are loaded afterwards.

    Raises:
        InputRefusedError: If the plan was made for another architecture.
    """
    if not steps:
        return dense
    groups = prunable(dense, example_inputs)
    widths = {name: group.width for name, group in groups.items()}
    for step in steps:
        if widths.get(step.group) != step.width:
            raise InputRefusedError(
                f"pruning plan: group {step.group!r} has width {step.width} in the plan and "
                f"{widths.get(step.group)} in the architecture; the bundle was made from another one"
            )
    return slice_copy(
        dense,
        [(groups[step.group], removed_channels(groups[step.group], step.kept, may_drop=True)) for step in steps],
        example_inputs,
    )
