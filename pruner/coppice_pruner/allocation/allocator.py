"""One door to every mode."""

from __future__ import annotations

from typing import Protocol

from coppice_api.prunejob import Allocation
from coppice_pruner.allocation.baselines import Magnitude, Uniform
from coppice_pruner.allocation.context import AllocationContext, Kept
from coppice_pruner.allocation.criterion import Criterion
from coppice_pruner.allocation.equation3 import Paper, PaperCorrected
from coppice_pruner.allocation.knapsack import Knapsack
from coppice_pruner.allocation.per_joule import PerJoule
from coppice_pruner.errors import InputRefusedError


class Allocator(Protocol):
    """Decides what the next step removes (Algorithm 1, lines 8 to 10)."""

    criterion: Criterion
    """The saliency whose scores it wants in the context."""

    def propose(self, context: AllocationContext, step: float) -> Kept:
        """Return the channels to keep of the groups that change, as indices into their widths now.

        Args:
            context: The model now.
            step: Share to remove, 0..1: of the dense model's predicted energy for Knapsack and PerJoule, of the
                channels there are now for the others.

        Returns:
            Empty when nothing is left to remove.
        """
        ...

    def after_rollback(self, context: AllocationContext) -> None:
        """Adjust the scaling balance (line 15) after a step was taken back."""
        ...


def make_allocator(allocation: Allocation, *, alpha: float = 0.6, beta: float = 0.4, rollbacks: int = 0) -> Allocator:
    """Return the allocator of a mode.

    Args:
        allocation: The spec's algorithm.allocation.
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
