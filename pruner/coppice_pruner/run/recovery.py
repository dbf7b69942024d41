"""How often a pruned model is fine-tuned before its step is kept or taken back (Algorithm 1, lines 12 to 16)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.run.history import History
from coppice_pruner.run.step_rule import LEAST_STEP, Pace, Rule, Verdict
from coppice_pruner.training import DivergedError, Quality

BETWEEN = 0.8
"""Share of the way from a model within the budget to one that did not come back, for the step in its place."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recovery:
    """What fine-tuning made of a pruned model."""

    quality: Quality | None
    """The last one found; None if even the first fine-tuning diverged."""
    kept: bool
    """Whether the step may stay."""
    excess: str
    """How it breaks the budget, or what else went wrong; empty if nothing."""
    spent: tuple[float, ...]
    """Share of the budget that it took after every fine-tuning; infinite after one that diverged."""
    diverged: bool = False
    """Whether the last fine-tuning did, and left weights that are of no use."""

    @property
    def fine_tunings(self) -> int:
        """Those that were done, the last one even if it diverged."""
        return len(self.spent)

    @property
    def teaches(self) -> bool:
        """Whether there are weights that another network may start from."""
        return self.quality is not None and not self.diverged


def recover(
    tune: Callable[[int], Quality], dense: Quality, budget: QualityBudget, rule: Rule, history: History,
    *, last: bool = False, further: bool = False,
) -> Recovery:  # fmt: skip
    """Fine-tune until a rule says that the step is kept or taken back.

    Args:
        tune: Fine-tunes the model, told how often it has been, and returns its quality.
        dense: Quality of the dense model.
        budget: How much less will do.
        rule: Says when.
        history: Before the first fine-tuning; there is one in any case.
        last: Whether no step follows if this one is kept.
        further: Whether the model is the one of the history that was kept last.
    """
    quality: Quality | None = None
    spent: list[float] = []
    while True:
        try:
            quality = tune(len(spent))
        except DivergedError as error:
            return Recovery(quality, False, str(error), (*spent, math.inf), diverged=True)
        spent.append(budget.spent(dense, quality))
        outlook = (history.further if further else history.tried)(spent).outlook(last=last)
        done = len(spent) + (len(history.spent) if further else 0)
        verdict = rule.verdict(spent[-1], done, outlook)
        _log.info(
            "%.2f of the budget spent after fine-tuning %d; %d left, the next ones to leave %.2f and %.2f of it: %s",
            spent[-1], done, outlook.left, outlook.pace.second, outlook.pace.later, verdict.name.lower(),
        )  # fmt: skip
        if verdict is not Verdict.AGAIN:
            return Recovery(quality, verdict is Verdict.KEEP, budget.excess(dense, quality), tuple(spent))


def settled_step(step: float, recovery: Recovery, pace: Pace) -> float:
    """Return the step after a model that was kept was fine-tuned further: less is left to make up for what it loses."""
    return max(step * math.pow(pace.later, recovery.fine_tunings / 2), LEAST_STEP)
