"""The accuracy budget of equation 2: how much quality a pruned model may lose."""

from __future__ import annotations

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

    def widened(self, times: float) -> QualityBudget:
        """Return a budget so many times as large."""
        percent = self.perplexity_percent
        return QualityBudget(self.points * times, None if percent is None else percent * times)

    def excess(self, dense: Quality, pruned: Quality) -> str:
        """Return how a quality breaks the budget, for a person; empty if it does not."""
        if self.perplexity_percent is not None:
            rise = (pruned.perplexity / dense.perplexity - 1) * 100
            # Written so that NaN is an excess.
            if rise <= self.perplexity_percent + _ROUNDING:
                return ""
            return (
                f"perplexity rose by {rise:.2f} % to {pruned.perplexity:.4g}; {self.perplexity_percent:g} % are allowed"
            )
        lost = (dense.accuracy_ratio - pruned.accuracy_ratio) * 100
        if lost <= self.points + _ROUNDING:
            return ""
        return f"accuracy fell by {lost:.2f} points to {pruned.accuracy_ratio:.2%}; {self.points:g} are allowed"

    def __str__(self) -> str:
        """Return the budget for a person."""
        if self.perplexity_percent is not None:
            return f"the {self.perplexity_percent:g} % of perplexity that objective.maxPerplexityIncreasePercent"
        return f"the {self.points:g} points of accuracy that objective.maxAccuracyDropPoints"
