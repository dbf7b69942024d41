"""How often a pruned model is fine-tuned before its step is kept or taken back (Algorithm 1, lines 12 to 16).

Every step has one fine-tuning. A run has as many again as it has steps, and spends these where they are needed: on
steps that are nearly within the budget. What a step that is taken back was taught is thrown away with it, so another
fine-tuning costs less than another step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.run.journal import Iteration
from coppice_pruner.training import DivergedError, Quality

NEARLY = 3.0
"""Times the budget: what counts as nearly."""
PATIENCE = 2
"""Fine-tunings in a row that may bring nothing: a brief one moves accuracy by a few tenths of a point either way."""


@dataclass(frozen=True)
class Recovery:
    """What fine-tuning made of a pruned model."""

    quality: Quality | None
    """The last one found; None if even the first fine-tuning diverged."""
    excess: str
    """Why the step must be taken back; empty if it may stay."""
    fine_tunings: int
    """Done, the last one even if it diverged."""


def recover(tune: Callable[[int], Quality], dense: Quality, budget: QualityBudget, *, spare: int) -> Recovery:
    """Fine-tune until the model is within the budget, or another time is not worth it.

    Args:
        tune: Fine-tunes the model, told how often it has been, and returns its quality.
        dense: Quality of the dense model.
        budget: How much less will do.
        spare: Fine-tunings that are left beside the first.
    """
    quality: Quality | None = None
    best: Quality | None = None
    done, idle = 0, 0
    while True:
        try:
            quality = tune(done)
        except DivergedError as error:
            return Recovery(quality, str(error), done + 1)
        done += 1
        excess = budget.excess(dense, quality)
        if best is None or budget.better(quality, best):
            best, idle = quality, 0
        else:
            idle += 1
        far = budget.widened(NEARLY).excess(dense, quality)
        if not excess or far or idle == PATIENCE or done > spare:
            return Recovery(quality, excess, done)


def spare_fine_tunings(iterations: Iterable[Iteration], max_iterations: int) -> int:
    """Return how many fine-tunings a run has left beside one for each of its steps."""
    return max_iterations - sum(max(0, item.fine_tunings - 1) for item in iterations)
