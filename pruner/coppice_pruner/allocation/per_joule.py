"""Greedy: whatever loses least saliency for each joule it saves goes first."""

from __future__ import annotations

from dataclasses import dataclass

from coppice_api.prunejob import Saliency
from coppice_pruner.allocation.context import STEP_SHARE, AllocationContext, Kept


@dataclass
class PerJoule:
    """Narrows one group at a time, by the best exchange of saliency for joules.

    Every permitted width is considered, not only the next: on hardware with a staircase the next one may save nothing.
    """

    saliency = Saliency.TAYLOR
    compares_groups = True
    beyond_paper = True

    def propose(self, context: AllocationContext, step: float) -> Kept:
        """Return what to keep when a share of its predicted energy goes."""
        budget = context.budget(step)
        widths = context.widths
        choices = {group.name: context.choices(group, least_share=STEP_SHARE, depth=True) for group in context.groups}
        losses = {group.name: group.losses(choices[group.name]) for group in context.groups}
        energy = context.energy.predict(widths)
        while energy > budget:
            best: tuple[float, str, int, float] | None = None
            for name, permitted in choices.items():
                here = permitted.index(widths[name])
                lower = permitted[:here]
                for index, left in enumerate(context.energy.predict_choices(widths, name, lower) if lower else ()):
                    saved = energy - left
                    if saved <= 0:
                        continue
                    price = (losses[name][index] - losses[name][here]) / saved
                    if best is None or (price, name, lower[index]) < best[:3]:
                        best = (price, name, lower[index], left)
            if best is None:
                break
            _, name, widths[name], energy = best
        return context.kept(widths)

    def after_rollback(self, context: AllocationContext) -> None:
        """Do nothing: the loop halves the step."""
