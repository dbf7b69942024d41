"""The fine-tunings of a run: what its networks had spent of the quality budget after each, and how many are left.

A run has twice as many fine-tunings as steps that it may keep, and spends them where they are needed: on models
outside the budget that can be brought back, and on smaller steps in place of those that were taken back.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coppice_pruner.run.journal import Iteration
from coppice_pruner.run.step_rule import Outlook, Pace

_PRIOR_WEIGHT = 3
"""Observations that what was measured on other models counts for."""
_UNUSUAL, _WORST = 2.0, 0.95


@dataclass(frozen=True)
class History:
    """Of every network that a run has made."""

    most: int
    """Fine-tunings that the run may do."""
    networks: tuple[tuple[float, ...], ...] = ()
    """What each had spent of the budget after each of its fine-tunings; infinite after one that diverged."""
    now: int | None = None
    """Which of them was kept last; None for the dense model."""

    @classmethod
    def of(cls, iterations: Iterable[Iteration], max_iterations: int) -> History:
        """Return the history of a run of so many steps at most."""
        history = cls(2 * max_iterations)
        for item in iterations:
            again = item.step == 0
            history = history.further(item.spent) if again else history.tried(item.spent, kept=item.accepted)
        return history

    @property
    def done(self) -> int:
        """Fine-tunings so far."""
        return sum(map(len, self.networks))

    @property
    def left(self) -> int:
        """Fine-tunings that the run may still do."""
        return max(self.most - self.done, 0)

    @property
    def spent(self) -> tuple[float, ...]:
        """What the network that was kept last had spent; empty for the dense model."""
        return () if self.now is None else self.networks[self.now]

    def tried(self, spent: Sequence[float], *, kept: bool = False) -> History:
        """Return the history with another network, which is fine-tuned."""
        networks = (*self.networks, tuple(spent))
        return dataclasses.replace(self, networks=networks, now=len(networks) - 1 if kept else self.now)

    def further(self, spent: Sequence[float]) -> History:
        """Return the history with more fine-tunings of the network that was kept last."""
        networks = [
            (*network, *spent) if number == self.now else network for number, network in enumerate(self.networks)
        ]
        return dataclasses.replace(self, networks=tuple(networks))

    def pace(self) -> Pace:
        """Return what a fine-tuning has left of what was lost, drawn towards what is usual.

        Only losses outside the budget count: within it the noise of the evaluation is as large as what is lost.
        """
        pairs = [list(itertools.pairwise(spent)) for spent in self.networks]
        return Pace(
            _drawn(Pace.second, [pair for found in pairs for pair in found[:1]]),
            _drawn(Pace.later, [pair for found in pairs for pair in found[1:]]),
        )

    def outlook(self, *, last: bool = False) -> Outlook:
        """Return what a network that was fine-tuned may still expect.

        Args:
            last: Whether no step follows if it is kept.
        """
        return Outlook(self.left, self.pace(), first=self.now is None, last=last)


def _drawn(usual: float, pairs: Iterable[tuple[float, float]]) -> float:
    logarithms = [
        math.log(min(max(after / before / usual, 1 / _UNUSUAL), _UNUSUAL))
        for before, after in pairs
        if 1.0 < before < math.inf and after < math.inf
    ]
    return min(usual * math.exp(sum(logarithms) / (len(logarithms) + _PRIOR_WEIGHT)), _WORST)
