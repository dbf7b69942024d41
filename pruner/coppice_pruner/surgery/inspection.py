"""What can be pruned in a model: every group is tried on a copy before it is offered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from coppice_pruner.errors import SurgeryRefusedError
from coppice_pruner.surgery.groups import ChannelGroup, traced_groups
from coppice_pruner.surgery.invariant import answers_without, cut_holds, passed_by, why_not

_SAMPLES = 2
"""What a wrong cut does shows in every sample, and whether outputs depend on inputs in two; each step is then checked
with all of them."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """A group that is left at its width, and why."""

    group: str
    reason: str


@dataclass(frozen=True)
class Inspection:
    """What can be pruned in a model, and what cannot."""

    groups: tuple[ChannelGroup, ...]
    refused: tuple[Refusal, ...]


def find_groups(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> tuple[ChannelGroup, ...]:
    """Return the groups of a model that may be pruned, in the order in which the model defines its layers.

    The layer that gives the model's output has no consumer and is left alone, and so is everything tied to it.
    Groups that cannot be held to the masked-dense invariant are left at their width and logged by module name.

    Args:
        model: The model; not changed.
        example_inputs: One batch, shapes (N, ...). Only its shapes and, for integers, its values matter.

    Raises:
        SurgeryRefusedError: If no group may be pruned, with the module at fault and what to do.
    """
    inspection = inspect_groups(model, example_inputs)
    for refusal in inspection.refused:
        _log.warning("group %s keeps its width: %s", refusal.group, refusal.reason)
    if not inspection.groups:
        reasons = "; ".join(refusal.reason for refusal in inspection.refused)
        raise SurgeryRefusedError(
            f"model {type(model).__name__} has no channels to prune: "
            + (reasons or "it needs at least two convolution or linear layers in a row")
        )
    return inspection.groups


def inspect_groups(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> Inspection:
    """Return what can be pruned and what cannot, after trying a cut of every group on a copy.

    The graph alone does not show everything: a softmax over channels, a head size kept in an attribute, or a
    reshape across channels only shows when a cut model is compared with the masked dense one. Groups are cut by one
    atom, and dropped as a whole, and compared: all at once, and where that fails in halves, down to the one at fault.
    That is a few forward passes, or where much fails a few for every group, so call it once a run.

    Args:
        model: The model; not changed.
        example_inputs: As for `find_groups`.

    Raises:
        SurgeryRefusedError: If the model cannot be traced.
    """
    inputs = tuple(_noise(item[:_SAMPLES]) for item in example_inputs)
    traced = traced_groups(model, example_inputs)
    cuttable = _passing(
        [group for group, reason in traced if reason is None], lambda some: cut_holds(model, some, inputs)
    )
    # Masking is cheap and finds nearly all that something must not pass by; slicing is then tried of what is left.
    answering = _passing(
        [group for group, _ in traced if group.name in cuttable], lambda some: answers_without(model, some, inputs)
    )
    droppable = _passing(
        [group for group, _ in traced if group.name in answering], lambda some: passed_by(model, some, inputs)
    )
    reasons = {
        group.name: reason or why_not(model, group, inputs) for group, reason in traced if group.name not in cuttable
    }
    return Inspection(
        tuple(replace(group, droppable=group.name in droppable) for group, _ in traced if group.name in cuttable),
        tuple(Refusal(name, reason) for name, reason in reasons.items() if reason is not None),
    )


def _passing(
    groups: Sequence[ChannelGroup], passes: Callable[[Sequence[ChannelGroup]], bool], *, fails: bool = False
) -> frozenset[str]:
    """Return the names of those that pass: all of them together, or what passes of either half.

    Where the first half passes, the fault lies in the second, which then `fails` and need not be tried as a whole.
    """
    if not groups or ((not fails or len(groups) == 1) and passes(groups)):
        return frozenset(group.name for group in groups)
    if len(groups) == 1:
        return frozenset()
    middle = len(groups) // 2
    first = _passing(groups[:middle], passes)
    return first | _passing(groups[middle:], passes, fails=len(first) == middle)


def _noise(example: Tensor) -> Tensor:
    """Return random values of an example's shape: zeros would hide most differences."""
    if not example.is_floating_point():
        return example
    generator = torch.Generator().manual_seed(0)
    return torch.randn(example.shape, generator=generator).to(example)
