"""The dense model's groups, and what they are at any width.

Tracing and trying cuts is done once, on the dense model. A pruned model's groups follow from which channels it kept: so
a step costs no trace, a dropped branch needs none, and a plan always speaks of the dense model.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from coppice_pruner.surgery.branch import Constant
from coppice_pruner.surgery.dependency import Coupling
from coppice_pruner.surgery.groups import ChannelGroup
from coppice_pruner.surgery.invariant import check_sliced
from coppice_pruner.surgery.learned import teach
from coppice_pruner.surgery.prune import named, removed_channels, removed_places, slice_copy
from coppice_pruner.surgery.refit import refitted


@dataclass(frozen=True)
class Blueprint:
    """What can be pruned in a model.

    Example: a group of width 8 that kept (0, 2, 3) has width 3 in `groups_at`; keeping (1, 2) of these leaves (2, 3)
    of the dense model.
    """

    groups: tuple[ChannelGroup, ...]
    """Of the dense model."""
    example_inputs: tuple[Tensor, ...]

    def groups_at(self, model: nn.Module, kept: Mapping[str, Sequence[int]]) -> tuple[ChannelGroup, ...]:
        """Return the groups of a pruned model; those that were dropped are no more, nor are layers that went with them.

        Args:
            model: With the channels of `kept`.
            kept: Of the dense model's channels; a group left out has all.
        """
        before = removed_places(
            (group, removed_channels(group, kept[group.name], may_drop=True))
            for group in self.groups
            if group.name in kept
        )
        result = []
        for group in self.groups:
            channels = tuple(kept.get(group.name, range(group.width)))
            if not channels:
                continue
            here = {item.module: model.get_submodule(item.module) for item in group.couplings}
            alive = {name for name, module in here.items() if not isinstance(module, nn.Identity)}
            layers = {name for name in alive if not isinstance(here[name], Constant)}
            result.append(
                replace(
                    group,
                    width=len(channels),
                    layers=tuple(name for name in group.layers if name in layers),
                    consumers=tuple(name for name in group.consumers if name in layers),
                    couplings=tuple(
                        _moved(item, channels, before.get((item.module, item.side), []))
                        for item in group.couplings
                        if item.module in alive
                    ),
                )
            )
        return tuple(result)

    def prune(
        self, model: nn.Module, kept: Mapping[str, Sequence[int]], further: Mapping[str, Sequence[int]]
    ) -> nn.Module:
        """Return a copy of a pruned model that has only some of its channels.

        Args:
            model: With the channels of `kept`; not changed.
            kept: Of the dense model's channels.
            further: What stays, as indices into the widths now; empty drops the group.

        Raises:
            InputRefusedError: As `prune`.
        """
        return slice_copy(model, self._removals(model, kept, further), self.example_inputs)

    def refitted(
        self, model: nn.Module, kept: Mapping[str, Sequence[int]], further: Mapping[str, Sequence[int]],
        inputs: tuple[Tensor, ...],
    ) -> nn.Module:  # fmt: skip
        """Return a copy of a pruned model in which what stays has taken over, as far as it can, what `prune` removes.

        Args:
            model: With the channels of `kept`; not changed.
            kept: Of the dense model's channels.
            further: As `prune`.
            inputs: A few hundred samples.
        """
        return refitted(model, self._removals(model, kept, further), inputs)

    def teach(
        self, pupil: nn.Module, model: nn.Module, kept: Mapping[str, Sequence[int]],
        further: Mapping[str, Sequence[int]], teacher: nn.Module, teachers: Mapping[str, Sequence[int]],
    ) -> None:  # fmt: skip
        """Give a candidate what another one learned, wherever both have the channels.

        Args:
            pupil: From `prune` with `further`; changed in place.
            model: With the channels of `kept`.
            kept: Of the dense model's channels.
            further: As `prune`.
            teacher: From `prune` with `teachers`, and fine-tuned.
            teachers: As `further`.
        """
        teach(model, pupil, self._removals(model, kept, further), teacher, self._removals(model, kept, teachers))

    def check(
        self, model: nn.Module, candidate: nn.Module, kept: Mapping[str, Sequence[int]],
        further: Mapping[str, Sequence[int]], inputs: tuple[Tensor, ...],
    ) -> None:  # fmt: skip
        """Raise unless a candidate from `prune` is the model it was cut from with those channels masked.

        Raises:
            InvariantViolatedError: With the groups at fault and the difference found.
        """
        check_sliced(model, candidate, self._removals(model, kept, further), inputs)

    def _removals(
        self, model: nn.Module, kept: Mapping[str, Sequence[int]], further: Mapping[str, Sequence[int]]
    ) -> list[tuple[ChannelGroup, list[int]]]:
        groups = {group.name: group for group in self.groups_at(model, kept)}
        return [
            (group, removed_channels(group, indices, may_drop=group.droppable))
            for group, indices in ((named(groups, name), indices) for name, indices in further.items())
        ]


def _moved(coupling: Coupling, channels: Sequence[int], gone: list[int]) -> Coupling:
    return replace(
        coupling,
        channels=tuple(
            tuple(index - bisect.bisect_left(gone, index) for index in coupling.channels[channel])
            for channel in channels
        ),
    )
