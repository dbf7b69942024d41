"""Equation 3, in the reading that is printed and in the one that the paper's text describes.

As printed, I_l = alpha * ||W_l||_2 + beta * E_l(dense) / E_l(sparse). The second term grows with what a layer saves
when pruned. Added to an *importance* it protects the layers where pruning pays, against the paper's own text and
its alpha = 0 row; and a raw norm has no common scale with a ratio.

Worked example, alpha 0.6, beta 0.4, two layers of norm 2. A costly one goes from 10 to 4 J when it is halved, a cheap
one from 1.0 to 0.9 J:

    printed     costly 1.2 + 0.4 * 10/4  = 2.20      cheap 1.2 + 0.4 * 1/0.9   = 1.64   -> the cheap one is pruned
    corrected   costly 0.6 + 0.4 * 5/11  = 0.78      cheap 0.6 + 0.4 * 10.9/11 = 1.00   -> the costly one is pruned
"""

from __future__ import annotations

from dataclasses import dataclass

from coppice_api.prunejob import Saliency
from coppice_pruner.allocation.context import AllocationContext, GroupState, Kept
from coppice_pruner.allocation.removal import remove_from_lowest_groups, remove_lowest_channels

SPARSE_SHARE = 0.5
"""Share of a group's channels in the "sparse" state. The paper leaves it open; at the state now the ratio would be 1
for every layer of a dense model, and equation 3 would know nothing of energy in the first iteration."""


@dataclass
class Paper:
    """Equation 3 as printed: an index for each layer, lowest first. The baseline of Table 1, not the product."""

    alpha: float = 0.6
    beta: float = 0.4
    rollbacks: int = 0
    saliency = Saliency.L2
    compares_groups = False
    beyond_paper = False

    def importance(self, context: AllocationContext) -> dict[str, float]:
        """Return I_l of every group.

        Source: equation 3, literally; ||W_l||_2 over all weights that produce the group.
        """
        alpha, beta = balance(self.alpha, self.beta, self.rollbacks)
        return {
            group.name: alpha * group.norm
            + beta
            * _ratio(
                context.energy.group_energy(context.dense_widths, group.name),
                context.energy.group_energy(_sparse(context, group), group.name),
            )
            for group in context.groups
        }

    def propose(self, context: AllocationContext, step: float) -> Kept:
        """Return what to keep when a share of all channels goes."""
        return remove_from_lowest_groups(context, self.importance(context), step)

    def after_rollback(self, context: AllocationContext) -> None:
        """Adjust the scaling balance (line 15): see `balance`."""
        self.rollbacks += 1


@dataclass
class PaperCorrected:
    """Equation 3 with its ratio turned over and its norm normalised, a score for each channel.

    I_c = alpha * ||W_c|| / mean ||W_c|| of its group + beta * E(sparse) / E(dense), where E is the whole model's
    energy with this group alone sparse: least where most joules go.
    """

    alpha: float = 0.6
    beta: float = 0.4
    rollbacks: int = 0
    saliency = Saliency.L2
    compares_groups = False
    beyond_paper = False

    def importance(self, context: AllocationContext) -> dict[str, tuple[float, ...]]:
        """Return I_c of every channel of every group."""
        alpha, beta = balance(self.alpha, self.beta, self.rollbacks)
        dense = context.energy.predict(context.dense_widths)
        result = {}
        for group in context.groups:
            energy = _ratio(context.energy.predict(_sparse(context, group)), dense)
            result[group.name] = tuple(alpha * score + beta * energy for score in normalised(group))
        return result

    def propose(self, context: AllocationContext, step: float) -> Kept:
        """Return what to keep when a share of all channels goes."""
        scores = self.importance(context)
        return remove_lowest_channels(context, lambda group: scores[group.name], step)

    def after_rollback(self, context: AllocationContext) -> None:
        """Adjust the scaling balance (line 15): see `balance`."""
        self.rollbacks += 1


def balance(alpha: float, beta: float, rollbacks: int) -> tuple[float, float]:
    """Return alpha and beta after some rollbacks: each moves half of beta to alpha.

    A rollback says that accuracy fell, so the weights get more say and the joules less. The sum stays, and so does the
    scale of the index. The paper names the adjustment (line 15) and gives no rule.
    """
    left = beta / 2**rollbacks
    return alpha + beta - left, left


def normalised(group: GroupState) -> tuple[float, ...]:
    """Return a group's scores over their mean, so that channels of different groups can be compared."""
    mean = sum(group.scores) / group.width or 1.0
    return tuple(score / mean for score in group.scores)


def _sparse(context: AllocationContext, group: GroupState) -> dict[str, int]:
    return {**context.widths, group.name: max(1, round(SPARSE_SHARE * group.width))}


def _ratio(numerator: float, denominator: float) -> float:
    # A layer too cheap to measure has nothing to save and nothing to protect.
    return numerator / denominator if denominator > 0 else 1.0
