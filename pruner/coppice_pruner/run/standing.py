"""The loop between two of its steps: all that the next one depends on, and what a checkpoint holds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from coppice_pruner.allocation import Kept
from coppice_pruner.profiling import CostModel
from coppice_pruner.run.journal import Iteration
from coppice_pruner.training import Quality


@dataclass(frozen=True)
class Attempt:
    """A network that was taken back."""

    model: nn.Module
    """Fine-tuned."""
    kept: Kept
    """What it has of the channels of the model that it was cut from."""


@dataclass(frozen=True)
class Within:
    """The last model that was within the budget, where the loop went on with one that is not yet."""

    model: nn.Module
    kept: Kept
    """Of the dense model's channels."""
    quality: Quality
    energy_reduction_ratio: float


@dataclass(frozen=True)
class Standing:
    """The loop after some finished steps."""

    model: nn.Module
    kept: Kept
    """Of the dense model's channels."""
    iterations: tuple[Iteration, ...]
    step: float
    rollbacks: int
    quality: Quality
    energy_reduction_ratio: float
    cost_model: CostModel
    polished: bool = False
    """Whether fineTune.finalEpochs were spent on this model."""
    attempt: Attempt | None = None
    """The last network that was made of this model and taken back; the next one learns from it."""
    within: Within | None = None
    """None where this model is within the budget itself."""
    stride: float | None = None
    """Size of the step before the loop went back to a model within the budget; `step` leads from there almost to where
    it was, and says nothing of what follows."""

    @property
    def kept_steps(self) -> int:
        """How many were kept; one of size zero is only more fine-tuning."""
        return sum(item.accepted and item.step > 0 for item in self.iterations)

    @property
    def last_within(self) -> Within:
        """The last model that was within the budget: this one, or the one that is kept beside it."""
        return self.within or Within(self.model, self.kept, self.quality, self.energy_reduction_ratio)

    @property
    def refused(self) -> list[dict[str, int]]:
        """Widths of the networks that were taken back since a step was kept."""
        since = itertools.takewhile(lambda item: not item.accepted, reversed(self.iterations))
        return [item.widths for item in since]

    def made_by(self, built_widths: Mapping[str, int]) -> Iteration:
        """Return the step that made the model.

        Args:
            built_widths: Of the dense model.
        """
        widths = {**built_widths, **{name: len(indices) for name, indices in self.kept.items()}}
        return next(
            item
            for item in reversed(self.iterations)
            if item.accepted and all(item.widths.get(name, width) == width for name, width in widths.items())
        )
