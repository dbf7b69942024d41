"""How often a pruned model is fine-tuned before its step is kept or taken back (Algorithm 1, lines 12 to 16).

A run has twice as many fine-tunings as steps that it may keep, and spends them where they are needed: on steps that are
nearly within the budget, and on smaller ones in place of those that were taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.run.journal import Iteration
from coppice_pruner.training import DivergedError, Quality

LEAST_STEP = 0.0125
"""Where halving ends: five rollbacks in a row from the first step."""
LARGER = 1.5
"""Times as large: the step after one that lost nothing."""
NEARLY = 3.0
"""Times the budget: what counts as nearly."""
WELL = 0.25
"""Times the budget: what a step may lose that has one fine-tuning and is followed by another step. Cuts of a model that
is at the edge of the budget already are mostly taken back."""
MOST = 3
"""Fine-tunings of one step: each brings less than the one before it, and a smaller step makes use of them too."""


@dataclass(frozen=True)
class Recovery:
    """What fine-tuning made of a pruned model."""

    quality: Quality | None
    """The last one found; None if even the first fine-tuning diverged."""
    excess: str
    """Why the step must be taken back; empty if it may stay."""
    lost: bool
    """Whether it is worse than the dense model at all."""
    fine_tunings: int
    """Done, the last one even if it diverged."""
    diverged: bool = False
    """Whether the last one did, and left weights that are of no use."""


def recover(
    tune: Callable[[int], Quality], dense: Quality, budget: QualityBudget, *, left: int, last: bool = False
) -> Recovery:
    """Fine-tune until the model is within the budget, or a smaller step is worth more than another time.

    Args:
        tune: Fine-tunes the model, told how often it has been, and returns its quality.
        dense: Quality of the dense model.
        budget: How much less will do.
        left: Fine-tunings at most; there is one in any case.
        last: Whether no step follows if this one is kept.
    """
    quality: Quality | None = None
    done = 0
    while True:
        try:
            quality = tune(done)
        except DivergedError as error:
            return Recovery(quality, str(error), True, done + 1, diverged=True)
        done += 1
        enough = budget if last or done > 1 else budget.widened(WELL)
        far = budget.widened(NEARLY).excess(dense, quality)
        if not enough.excess(dense, quality) or far or done >= min(left, MOST):
            lost = bool(budget.widened(0).excess(dense, quality))
            return Recovery(quality, budget.excess(dense, quality), lost, done)


def adapted(step: float, recovery: Recovery, *, largest: float) -> float:
    """Return the step after one that is kept: larger if it lost nothing, smaller if it took many fine-tunings.

    Args:
        step: That was kept.
        recovery: What fine-tuning made of it.
        largest: There is.
    """
    if not recovery.lost:
        return min(LARGER * step, largest)
    return max(step / LARGER, LEAST_STEP) if recovery.fine_tunings == MOST else step


def fine_tunings_left(iterations: Iterable[Iteration], max_iterations: int) -> int:
    """Return how many fine-tunings a run may still do."""
    return 2 * max_iterations - sum(item.fine_tunings for item in iterations)
