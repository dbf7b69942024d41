"""The two allocations that know nothing of energy."""

from __future__ import annotations

from dataclasses import dataclass

from coppice_api.prunejob import Saliency
from coppice_pruner.allocation.context import AllocationContext, Kept
from coppice_pruner.allocation.equation3 import normalised
from coppice_pruner.allocation.removal import remove_evenly, remove_lowest_channels


@dataclass
class Magnitude:
    """Global magnitude pruning: the lowest normalised L2 norms go, wherever they are. PaperCorrected with beta = 0."""

    saliency = Saliency.L2
    compares_groups = False
    beyond_paper = False

    def propose(self, context: AllocationContext, step: float) -> Kept:
        """Return what to keep when a share of all channels goes."""
        return remove_lowest_channels(context, normalised, step)

    def after_rollback(self, context: AllocationContext) -> None:
        """Do nothing: there is no balance to adjust."""


@dataclass
class Uniform:
    """The same share of every group, weakest channels first."""

    saliency = Saliency.L2
    compares_groups = False
    beyond_paper = False

    def propose(self, context: AllocationContext, step: float) -> Kept:
        """Return what to keep when a share of every group's channels goes."""
        return remove_evenly(context, step)

    def after_rollback(self, context: AllocationContext) -> None:
        """Do nothing: there is no balance to adjust."""
