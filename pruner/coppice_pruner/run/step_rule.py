"""When a pruned model's step is kept, and how large the next one is (Algorithm 1, lines 12 to 16).

Losses are in budgets: 1 is all that may be lost.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

LEAST_STEP = 0.0125
"""Where shrinking ends: after five rollbacks in a row from the first step, if each of them halves it."""


class Verdict(enum.Enum):
    """What is done with a pruned model after a fine-tuning."""

    KEEP = enum.auto()
    AGAIN = enum.auto()
    """It is fine-tuned once more."""
    BACK = enum.auto()


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

    def next_step(self, step: float, spent: Sequence[float], outlook: Outlook, *, kept: bool) -> float:
        """Return the step after one that was tried.

        Args:
            step: That was tried.
            spent: Share of the budget that it took after each fine-tuning; empty if there was none.
            outlook: After it.
            kept: Whether it was.
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

    def next_step(self, step: float, spent: Sequence[float], outlook: Outlook, *, kept: bool) -> float:
        """Return a larger step after one that lost nothing, a smaller one after many fine-tunings; else as `Rule`."""
        del outlook
        if not kept:
            return step / 2
        if spent[-1] <= 0:
            return min(self.larger * step, self.largest_step)
        return max(step / self.larger, LEAST_STEP) if len(spent) == self.most else step


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

    def next_step(self, step: float, spent: Sequence[float], outlook: Outlook, *, kept: bool) -> float:
        """Return a step of which one fine-tuning leaves what later ones bring back; as `Rule`.

        What is lost grows with the square of the step: on a VGG a quarter of a group cost a third of what half of it
        cost, and the groups that matter least go first.
        """
        expected = self._expected(spent[0] if spent else math.inf, 1, outlook)
        factor = math.sqrt(self.goes_on / expected) if not expected <= 0 else self.larger
        # Written so that NaN is the least.
        factor = factor if factor > self.smaller else self.smaller
        if not kept:
            return step * min(factor, self.retry)
        return min(max(step * min(factor, self.larger), LEAST_STEP), self.largest_step)

    def _goes_on(self, spent: float, done: int, outlook: Outlook) -> bool:
        if outlook.first and not spent <= 1.0:
            return False
        return self._expected(spent, done, outlook) <= self.goes_on

    def _expected(self, spent: float, done: int, outlook: Outlook) -> float:
        """Return what is spent soon, if some of the fine-tunings that are left are not counted on."""
        return spent * outlook.pace.leaves(min(outlook.left - self.reserve, self.soon), done)
