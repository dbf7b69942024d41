"""How often a pruned model is fine-tuned before its step is kept or taken back (Algorithm 1, lines 12 to 16).

A run has twice as many fine-tunings as steps that it may keep, and spends them where they are needed: on models
outside the budget that can be brought back, and on smaller steps in place of those that were taken back. Losses are in
budgets: 1 is all that may be lost.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.run.journal import Iteration
from coppice_pruner.training import DivergedError, Quality

LEAST_STEP = 0.0125
"""Where shrinking ends: after five rollbacks in a row from the first step, if each of them halves it."""
BETWEEN = 0.8
"""Share of the way from a model within the budget to one that did not come back, for the step in its place."""
_PRIOR_WEIGHT = 3
"""Observations that what was measured on other models counts for."""
_UNUSUAL, _WORST = 2.0, 0.95
_log = logging.getLogger(__name__)


class Verdict(enum.Enum):
    """What is done with a pruned model after a fine-tuning."""

    KEEP = enum.auto()
    AGAIN = enum.auto()
    """It is fine-tuned once more."""
    BACK = enum.auto()


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


@dataclass(frozen=True)
class Pace:
    """What a fine-tuning of a pruned model leaves of what was lost.

    The defaults are medians of about thirty steps of VGGs, ResNets and ViTs on shapes100.
    """

    second: float = 0.45
    """Of what was lost after the first one."""
    later: float = 0.8
    """Those after the second."""

    def leaves(self, fine_tunings: int, done: int) -> float:
        """Return what so many more leave, of a model that had `done` of them."""
        if fine_tunings <= 0:
            return 1.0
        return (self.second if done == 1 else self.later) * self.later ** (fine_tunings - 1)


@dataclass(frozen=True)
class Outlook:
    """What a step that was fine-tuned may still expect of its run."""

    left: int
    """Fine-tunings that the run may still do."""
    pace: Pace = Pace()
    first: bool = False
    """Whether there is no other pruned model that could be kept."""
    last: bool = False
    """Whether no step follows if this one is kept."""


class Rule(Protocol):
    """When a step is kept, and how large the next one is."""

    @property
    def first_step(self) -> float:
        """Share of what there is that a step removes, times the root of the energy that is left.

        The less there is, the more of it is needed.
        """
        ...

    def verdict(self, spent: float, done: int, outlook: Outlook) -> Verdict:
        """Return what is done with a model.

        Args:
            spent: Share of the budget that it takes; NaN counts as too much.
            done: Fine-tunings of it.
            outlook: After them.
        """
        ...

    def settles(self, spent: float, done: int, outlook: Outlook) -> bool:
        """Return whether a model that was kept is fine-tuned further before another step is made of it."""
        ...

    def next_step(self, step: float, recovery: Recovery, outlook: Outlook) -> float:
        """Return the step after one that was tried.

        Args:
            step: That was tried.
            recovery: What became of it.
            outlook: After it.
        """
        ...


@dataclass(frozen=True)
class Prompt:
    """A step is kept only if the model is within the budget, as in the paper."""

    first_step: float = 0.25
    largest_step: float = 0.5
    larger: float = 1.5
    """Times as large: the step after one that lost nothing."""
    nearly: float = 3.0
    """Times the budget: what is fine-tuned again."""
    well: float = 0.25
    """Times the budget: what a step may lose that has one fine-tuning and is followed by another step. Cuts of a model
    that is at the edge of the budget already are mostly taken back."""
    most: int = 3
    """Fine-tunings of one step: a smaller step makes use of them too."""

    def verdict(self, spent: float, done: int, outlook: Outlook) -> Verdict:
        """Return what is done with a model; as `Rule`."""
        if spent <= (1.0 if outlook.last or done > 1 else self.well):
            return Verdict.KEEP
        if spent <= self.nearly and outlook.left and done < self.most:
            return Verdict.AGAIN
        return Verdict.KEEP if spent <= 1.0 else Verdict.BACK

    def settles(self, spent: float, done: int, outlook: Outlook) -> bool:
        """Return no: what was kept is within the budget; as `Rule`."""
        del spent, done, outlook
        return False

    def next_step(self, step: float, recovery: Recovery, outlook: Outlook) -> float:
        """Return a larger step after one that lost nothing, a smaller one after many fine-tunings; else as `Rule`."""
        del outlook
        if not recovery.kept:
            return step / 2
        if recovery.spent[-1] <= 0:
            return min(self.larger * step, self.largest_step)
        return max(step / self.larger, LEAST_STEP) if recovery.fine_tunings == self.most else step


@dataclass(frozen=True)
class Patient:
    """A step is kept if the fine-tunings that are left can be expected to bring the model back within the budget.

    What a network can learn depends more on its widths than on the way there (Liu et al. 2019, arXiv:1810.05270), so
    fine-tunings are worth more on small networks than on those in between.
    """

    first_step: float = 0.25
    largest_step: float = 0.3
    larger: float = 1.25
    """Times as large, at most: the step after one that was kept."""
    smaller: float = 0.5
    """Times as large, at least."""
    retry: float = 0.9
    """Times as large, at most: the step after one that was taken back."""
    goes_on: float = 0.7
    """Share of the budget that a model may be expected to take soon for another step to be made of it."""
    soon: int = 3
    """Fine-tunings that are counted on for that; those of the steps that follow do it on the side."""
    reserve: int = 3
    """Fine-tunings that are kept for steps that come to nothing, where a model is outside the budget."""
    most: int = 6
    """Fine-tunings that are counted on at most: later ones bring little."""

    def verdict(self, spent: float, done: int, outlook: Outlook) -> Verdict:
        """Return what is done with a model; as `Rule`."""
        left, pace = outlook.left, outlook.pace
        if spent <= 1.0 and (outlook.last or left <= 1):
            return Verdict.KEEP
        if not outlook.last and self._goes_on(spent, done, outlook):
            return Verdict.KEEP
        # Of a first step there must be something to go back to soon, of others while a smaller step can be tried still.
        counted = 2 if outlook.first else left if outlook.last else left - 1
        if left and spent * pace.leaves(min(counted, self.most), done) <= 1.0 and done <= self.most:
            return Verdict.AGAIN
        return Verdict.KEEP if spent <= 1.0 else Verdict.BACK

    def settles(self, spent: float, done: int, outlook: Outlook) -> bool:
        """Return whether another step could leave too few fine-tunings to bring the model back; as `Rule`."""
        return not spent <= 1.0 and not self._goes_on(spent, done, outlook)

    def next_step(self, step: float, recovery: Recovery, outlook: Outlook) -> float:
        """Return a step of which one fine-tuning leaves what later ones bring back; as `Rule`.

        What is lost grows with the square of the step: on a VGG a quarter of a group cost a third of what half of it
        cost, and the groups that matter least go first.
        """
        expected = self._expected(recovery.spent[0] if recovery.spent else math.inf, 1, outlook)
        factor = math.sqrt(self.goes_on / expected) if not expected <= 0 else self.larger
        # Written so that NaN is the least.
        factor = factor if factor > self.smaller else self.smaller
        if not recovery.kept:
            return step * min(factor, self.retry)
        return min(max(step * min(factor, self.larger), LEAST_STEP), self.largest_step)

    def _goes_on(self, spent: float, done: int, outlook: Outlook) -> bool:
        if outlook.first and not spent <= 1.0:
            return False
        return self._expected(spent, done, outlook) <= self.goes_on

    def _expected(self, spent: float, done: int, outlook: Outlook) -> float:
        """Return what is spent soon, if some of the fine-tunings that are left are not counted on."""
        return spent * outlook.pace.leaves(min(outlook.left - self.reserve, self.soon), done)


def recover(
    tune: Callable[[int], Quality], dense: Quality, budget: QualityBudget, rule: Rule, outlook: Outlook,
    history: Sequence[Sequence[float]] = (), before: Sequence[float] = (),
) -> Recovery:  # fmt: skip
    """Fine-tune until a rule says that the step is kept or taken back.

    Args:
        tune: Fine-tunes the model, told how often it has been, and returns its quality.
        dense: Quality of the dense model.
        budget: How much less will do.
        rule: Says when.
        outlook: Before the first fine-tuning; there is one in any case.
        history: What other networks of the run had spent after each of their fine-tunings.
        before: What this one had, where it was kept and is fine-tuned further.
    """
    quality: Quality | None = None
    spent: list[float] = []
    while True:
        try:
            quality = tune(len(spent))
        except DivergedError as error:
            return Recovery(quality, False, str(error), (*spent, math.inf), diverged=True)
        spent.append(budget.spent(dense, quality))
        now = dataclasses.replace(
            outlook, left=max(outlook.left - len(spent), 0), pace=pace_of([*history, [*before, *spent]])
        )  # fmt: skip
        verdict = rule.verdict(spent[-1], len(before) + len(spent), now)
        _log.info(
            "%.2f of the budget spent after fine-tuning %d; %d left, the next ones to leave %.2f and %.2f of it: %s",
            spent[-1], len(before) + len(spent), now.left, now.pace.second, now.pace.later, verdict.name.lower(),
        )  # fmt: skip
        if verdict is not Verdict.AGAIN:
            return Recovery(quality, verdict is Verdict.KEEP, budget.excess(dense, quality), tuple(spent))


def settled_step(step: float, recovery: Recovery, pace: Pace) -> float:
    """Return the step after a model that was kept was fine-tuned further: less is left to make up for what it loses."""
    return max(step * math.pow(pace.later, recovery.fine_tunings / 2), LEAST_STEP)


def pace_of(history: Iterable[Sequence[float]]) -> Pace:
    """Return the pace that a run has shown so far, drawn towards what is usual.

    Args:
        history: What models had spent of the budget after each of their fine-tunings. Only those outside the budget
            count: within it the noise of the evaluation is as large as what is lost.
    """
    pairs = [list(itertools.pairwise(spent)) for spent in history]
    return Pace(
        _drawn(Pace.second, [pair for found in pairs for pair in found[:1]]),
        _drawn(Pace.later, [pair for found in pairs for pair in found[1:]]),
    )


def _drawn(usual: float, pairs: Iterable[tuple[float, float]]) -> float:
    logarithms = [
        math.log(min(max(after / before / usual, 1 / _UNUSUAL), _UNUSUAL))
        for before, after in pairs
        if 1.0 < before < math.inf and after < math.inf
    ]
    return min(usual * math.exp(sum(logarithms) / (len(logarithms) + _PRIOR_WEIGHT)), _WORST)


def fine_tunings_left(iterations: Iterable[Iteration], max_iterations: int) -> int:
    """Return how many fine-tunings a run may still do."""
    return 2 * max_iterations - sum(item.fine_tunings for item in iterations)
