"""What an allocation knows: the groups with their scores, and where the joules go."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Widths = Mapping[str, int]
PRIOR_SHARE = 0.5
"""How far a channel's share of the saliency is drawn towards the mean. Scores of one batch or one norm are rough: a
group whose score sits in few channels is not proven to need only these."""
STEP_SHARE = 0.5
"""Least share of a group's channels that one step of the energy-aware modes keeps. Scores describe the model as it is;
far from it they say little, and the next step has new ones."""

Kept = dict[str, tuple[int, ...]]
"""For each group that changes, the channels that stay, as indices into its width now."""


class EnergyModel(Protocol):
    """Predicts energy from widths; `profiling.CostModel` is the measured one."""

    def predict(self, widths: Widths) -> float:
        """Return the energy of the whole model in joules per inference; a group left out has its width now."""
        ...

    def predict_choices(self, widths: Widths, group: str, choices: Sequence[int]) -> Sequence[float]:
        """Return `predict` for each of several widths of one group, the others as given."""
        ...

    def predict_each(self, widths: Widths, others: Widths) -> Sequence[float]:
        """Return `predict` for each of several groups at another width, alone; all else as given."""
        ...

    def predict_seconds(self, widths: Widths) -> float:
        """Return the latency of the whole model in seconds a batch; a group left out has its width now."""
        ...

    def group_energy(self, widths: Widths, group: str) -> float:
        """Return the energy of the layers that produce a group's channels, in joules per inference."""
        ...


@dataclass(frozen=True)
class GroupState:
    """One channel group at the width it has now."""

    name: str
    scores: tuple[float, ...]
    """For each channel, zero or more; larger means keep. Squares add up: a group's score is the root of their sum."""
    dense_width: int
    """Width in the dense model."""
    atoms: tuple[tuple[int, ...], ...] = ()
    """Sets of channels that stay or go together; empty when every channel stands alone."""
    aligned: bool = True
    """Whether the context's multiple and least width hold for it; not for attention heads, which are few."""
    sensitivity: float = 1.0
    """What `losses` of narrowing are multiplied with: how much more than others the group moves the answers."""
    drop_loss: float | None = None
    """Saliency lost when the whole group goes and its branch is dropped, as `losses`; None if it cannot go."""

    def __post_init__(self) -> None:
        """Refuse what no allocation can work with."""
        if not self.scores or any(not 0 <= score < math.inf for score in self.scores):
            raise ValueError(f"group {self.name}: scores must be finite, zero or more, one for each channel")
        if self.dense_width < len(self.scores):
            raise ValueError(f"group {self.name}: is wider ({len(self.scores)}) than in the dense model")
        if not self.atoms:
            object.__setattr__(self, "atoms", tuple((channel,) for channel in range(len(self.scores))))
        if sorted(channel for atom in self.atoms for channel in atom) != list(range(len(self.scores))):
            raise ValueError(f"group {self.name}: atoms must hold every channel once")

    @property
    def width(self) -> int:
        """Channels now."""
        return len(self.scores)

    @property
    def norm(self) -> float:
        """The group's score: for L2 the norm of all its weights, ||W_l||_2 of equation 3."""
        return math.sqrt(sum(score**2 for score in self.scores))

    def strongest(self, width: int) -> tuple[int, ...]:
        """Return the channels that stay at a width, in order: those of the strongest atoms, of equals the earlier."""
        size = len(self.atoms[0])
        strength = [sum(self.scores[channel] ** 2 for channel in atom) for atom in self.atoms]
        best = sorted(range(len(self.atoms)), key=lambda index: (-strength[index], index))[: width // size]
        return tuple(sorted(channel for index in best for channel in self.atoms[index]))

    def losses(self, choices: Sequence[int]) -> tuple[float, ...]:
        """Return the saliency lost at each width, zero or more.

        The loss is 1 / share - 1 for the share that stays: of the squared score, half drawn towards an even share for
        each channel (`PRIOR_SHARE`). A quarter of a group costs a third as much as half of it, and the last channels
        are dear: so it was on networks that were fine-tuned after every cut. Losses add up over groups.
        """
        strength = sorted((sum(self.scores[channel] ** 2 for channel in atom) for atom in self.atoms), reverse=True)
        kept_strengths = list(itertools.accumulate(strength, initial=0.0))
        total = kept_strengths[-1]
        result = []
        for width in choices:
            if not width:
                assert self.drop_loss is not None
                result.append(self.drop_loss)
                continue
            even = width / self.width
            kept = kept_strengths[width // len(self.atoms[0])] / total if total else even
            share = (1 - PRIOR_SHARE) * kept + PRIOR_SHARE * even
            result.append(self.sensitivity * max(0.0, 1 / share - 1))
        return tuple(result)


@dataclass(frozen=True)
class AllocationContext:
    """The model as allocation sees it, at the widths it has now."""

    groups: tuple[GroupState, ...]
    energy: EnergyModel
    multiple: int = 1
    """Widths become multiples of this, which the hardware likes; a group's width now is always permitted."""
    min_width: int = 1
    """No group becomes narrower than this, unless it is dropped."""
    dropped: frozenset[str] = frozenset()
    """Groups of the dense model that are gone."""
    max_seconds: float | None = None
    """What a batch may take in the end; None for no limit."""
    refused: tuple[Widths, ...] = ()
    """Networks that were made of this model and taken back."""
    moved: Callable[[Sequence[Kept]], Sequence[float]] | None = None
    """Measures how far the answers of networks are from the model's, each given by the channels that stay, before any
    fine-tuning; None where nothing can be measured."""

    def __post_init__(self) -> None:
        """Refuse what no allocation can work with."""
        if self.multiple < 1 or self.min_width < 1:
            raise ValueError(f"multiple ({self.multiple}) and min_width ({self.min_width}) must be 1 or more")

    @property
    def widths(self) -> dict[str, int]:
        """The widths now, 0 for what was dropped."""
        return dict.fromkeys(self.dropped, 0) | {group.name: group.width for group in self.groups}

    @property
    def dense_widths(self) -> dict[str, int]:
        """The widths of the dense model."""
        return {group.name: group.dense_width for group in self.groups}

    def group(self, name: str) -> GroupState:
        """Return a group by name."""
        return next(group for group in self.groups if group.name == name)

    def choices(self, group: GroupState, *, least_share: float = 0.0, depth: bool = False) -> tuple[int, ...]:
        """Return the widths a group may have, smallest first; the last is its width now.

        Args:
            group: Of this context.
            least_share: Share of its channels that must stay; the next lower width is permitted in any case.
            depth: Whether 0 is a choice, for groups that can be dropped.
        """
        multiple, least = (self.multiple, self.min_width) if group.aligned else (1, 1)
        unit = math.lcm(multiple, len(group.atoms[0]))
        smallest = max(unit, math.ceil(least / unit) * unit)
        next_lower = (group.width - 1) // unit * unit
        smallest = max(smallest, min(math.ceil(least_share * group.width / unit) * unit, next_lower))
        drop = () if group.drop_loss is None or not depth else (0,)
        return (*drop, *range(smallest, group.width, unit), group.width)

    def kept(self, widths: Widths) -> Kept:
        """Return the channels that stay at these widths, of the groups that change."""
        return {
            group.name: group.strongest(widths[group.name])
            for group in self.groups
            if widths.get(group.name, group.width) < group.width
        }

    def latency_limit(self, step: float) -> float | None:
        """Return what a batch may take after a step, in seconds: it comes down with the energy until it is enough."""
        if self.max_seconds is None:
            return None
        return max(self.max_seconds, (1.0 - step) * self.energy.predict_seconds(self.widths))

    def refused_joules(self) -> float:
        """Return what the dearest network that was taken back costs, in joules per inference; 0 if none was."""
        return max((self.energy.predict(widths) for widths in self.refused), default=0.0)

    def budget(self, step: float) -> float:
        """Return the energy that is left when a share of what the model costs now goes, in joules per inference."""
        return (1.0 - step) * self.energy.predict(self.widths)
