"""One door to every mode."""

from __future__ import annotations

from typing import Protocol

from coppice_api.prunejob import Allocation, Saliency
from coppice_pruner.allocation.baselines import Magnitude, Uniform
from coppice_pruner.allocation.context import AllocationContext, Kept
from coppice_pruner.allocation.equation3 import Paper, PaperCorrected
from coppice_pruner.allocation.knapsack import Knapsack
from coppice_pruner.allocation.per_joule import PerJoule
from coppice_pruner.errors import InputRefusedError


class Allocator(Protocol):
    """Decides what the next step removes (Algorithm 1, lines 8 to 10)."""

    saliency: Saliency
    """Whose scores it wants in the context."""
    compares_groups: bool
    """Whether it wants to know how much each group moves the answers, and what dropping it costs."""
    beyond_paper: bool
    """Whether the loop may do more than Algorithm 1: refit layers before a cut if little fine-tuning follows, or have
    a step learn from the one that was taken back before it. Published methods are run as they were published."""

    def propose(self, context: AllocationContext, step: float) -> Kept:
        """Return the channels to keep of the groups that change, as indices into their widths now.

        Args:
            context: The model now.
            step: Share of what there is now to remove, 0..1: of the predicted energy for Knapsack and PerJoule, of
                the channels for the others.

        Returns:
            Empty when nothing is left to remove.
        """
        ...

    def after_rollback(self, context: AllocationContext) -> None:
        """Adjust the scaling balance (line 15) after a step was taken back."""
        ...


def make_allocator(
    allocation: Allocation, *, saliency: Saliency = Saliency.AUTO, alpha: float = 0.6, beta: float = 0.4,
    rollbacks: int = 0,
) -> Allocator:  # fmt: skip
    """Return the allocator of a mode.

    Args:
        allocation: The spec's algorithm.allocation.
        saliency: The spec's algorithm.saliency; Auto leaves the mode its own.
        alpha: Weight of the norm in equation 3.
        beta: Weight of the energy in equation 3.
        rollbacks: Steps taken back so far: all the state there is, so that a resumed run decides as before.

    Raises:
        InputRefusedError: If both weights are zero or one is negative.
    """
    if not (alpha >= 0 and beta >= 0 and alpha + beta > 0):
        raise InputRefusedError(
            f"algorithm.alpha ({alpha}) and algorithm.beta ({beta}) must be zero or more, and one of them more"
        )
    allocator = _of_mode(allocation, alpha, beta, rollbacks)
    if saliency is not Saliency.AUTO:
        allocator.saliency = saliency
    return allocator


def _of_mode(allocation: Allocation, alpha: float, beta: float, rollbacks: int) -> Allocator:
    match allocation:
        case Allocation.PAPER:
            return Paper(alpha, beta, rollbacks)
        case Allocation.PAPER_CORRECTED:
            return PaperCorrected(alpha, beta, rollbacks)
        case Allocation.MAGNITUDE:
            return Magnitude()
        case Allocation.UNIFORM:
            return Uniform()
        case Allocation.PER_JOULE:
            return PerJoule()
        case Allocation.KNAPSACK:
            return Knapsack()
