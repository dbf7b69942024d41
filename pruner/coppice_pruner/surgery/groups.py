"""Channel groups: the units that allocation chooses widths for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from coppice_pruner.errors import SurgeryRefusedError
from coppice_pruner.surgery.dependency import Dependencies, Member


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that must be removed together, such as those joined by a residual connection.

    Example: in `conv1 -> bn -> relu -> conv2` the output channels of conv1 and the input channels of conv2
    form one group named conv1.
    """

    name: str
    """Module whose output channels lead the group."""
    width: int
    """Channels now."""
    producers: tuple[str, ...]
    """Modules whose output channels are the group's."""
    consumers: tuple[str, ...]
    """Modules that read the group's channels as input."""


def find_groups(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> tuple[ChannelGroup, ...]:
    """Return the groups of a model that may be pruned.

    The layer that gives the model's output has no consumer and is left alone, and so is everything tied to it.

    Args:
        model: The model; not changed.
        example_inputs: One batch, shapes (N, ...).

    Raises:
        SurgeryRefusedError: If the model has a module that cannot be held to the masked-dense invariant, or no
            group at all.
    """
    groups = []
    for members in Dependencies(model, example_inputs).roots():
        consumers = _unique(member for member in members if not member.produces)
        if not consumers:
            continue
        producers = _unique(member for member in members if member.produces)
        groups.append(ChannelGroup(members[0].name, len(members[0].indices), producers, consumers))
    if not groups:
        raise SurgeryRefusedError(
            f"model {type(model).__name__} has no channels to prune: it needs at least two convolution or linear "
            "layers in a row"
        )
    # The graph lists groups from the output backwards; people read a model from its input.
    order = {name: position for position, (name, _) in enumerate(model.named_modules())}
    return tuple(sorted(groups, key=lambda group: order[group.name]))


def _unique(members: Iterable[Member]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(member.name for member in members))
