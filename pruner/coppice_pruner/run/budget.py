"""The accuracy budget of equation 2: how much quality a pruned model may lose."""

from __future__ import annotations

import math
from dataclasses import dataclass

from coppice_api.prunejob import Objective
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.tasks import Task
from coppice_pruner.training import Quality

_ROUNDING = 1e-9


@dataclass(frozen=True)
class QualityBudget:
    """Points of accuracy, or for a language model percent of perplexity."""

    points: float
    perplexity_percent: float | None = None

    @classmethod
    def of(cls, objective: Objective, task: Task) -> QualityBudget:
        """Return the budget of an objective.

        Raises:
            InputRefusedError: If the budget is for another task.
        """
        points, percent = float(objective.max_accuracy_drop_points), objective.max_perplexity_increase_percent
        if percent is not None and not task.perplexity:
            raise InputRefusedError(
                f"spec.objective.maxPerplexityIncreasePercent: the task is {task.name}, which has no perplexity; use "
                "maxAccuracyDropPoints"
            )
        return cls(points, None if percent is None else float(percent))

    def spent(self, dense: Quality, pruned: Quality) -> float:
        """Return what share of the budget a quality takes: below zero if it is better than the dense model's."""
        lost, allowed = self._lost(dense, pruned)
        if not lost <= allowed + _ROUNDING:
            # Written so that NaN is beyond the budget.
            return lost / allowed if allowed > 0 and lost > allowed else math.inf
        return min(lost / allowed, 1.0) if allowed > 0 else min(lost, 0.0)

    def excess(self, dense: Quality, pruned: Quality) -> str:
        """Return how a quality breaks the budget, for a person; empty if it does not."""
        lost, allowed = self._lost(dense, pruned)
        # Written so that NaN is an excess.
        if lost <= allowed + _ROUNDING:
            return ""
        if self.perplexity_percent is not None:
            return f"perplexity rose by {lost:.2f} % to {pruned.perplexity:.4g}; {allowed:g} % are allowed"
        return f"accuracy fell by {lost:.2f} points to {pruned.accuracy_ratio:.2%}; {allowed:g} are allowed"

    def _lost(self, dense: Quality, pruned: Quality) -> tuple[float, float]:
        """Return what was lost and what may be, in percent of perplexity or in points of accuracy."""
        if self.perplexity_percent is not None:
            return (pruned.perplexity / dense.perplexity - 1) * 100, self.perplexity_percent
        return (dense.accuracy_ratio - pruned.accuracy_ratio) * 100, self.points

    def __str__(self) -> str:
        """Return the budget for a person."""
        if self.perplexity_percent is not None:
            return f"the {self.perplexity_percent:g} % of perplexity that objective.maxPerplexityIncreasePercent"
        return f"the {self.points:g} points of accuracy that objective.maxAccuracyDropPoints"
