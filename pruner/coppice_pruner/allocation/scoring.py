"""Equation 3 in both readings, and removal by lowest score.

As printed, I_l = alpha * ||W_l||_2 + beta * E_l(dense) / E_l(sparse). The second term grows with what a layer has
saved, so as an *importance* it protects the layers where pruning pays, against the paper's own text; and a norm
and a ratio have no common scale. Both readings are here: `Paper` is the baseline of Table 1, not the product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from coppice_api.prunejob import Allocation
from coppice_pruner.allocation.context import AllocationContext

Scores = dict[str, tuple[float, ...]]


def layer_importance(
    context: AllocationContext, allocation: Allocation, *, alpha: float, beta: float, sparse_share: float = 0.5
) -> dict[str, float]:
    """Return equation 3's index of each group.

    Args:
        context: The model now.
        allocation: Paper, or PaperCorrected.
        alpha: Weight of the norm.
        beta: Weight of the energy.
        sparse_share: Share of a group's channels that the "sparse" state keeps; the paper leaves it open.

    Raises:
        ValueError: For another allocation.

    Source: equation 3; DESIGN section 5 for the corrected reading.
    """
    norms = {name: math.sqrt(sum(score**2 for score in scores)) for name, scores in context.scores.items()}
    dense = {name: context.dense_energy_joules.get(name, context.group_energy_joules(name)) for name in norms}
    if allocation is Allocation.PAPER:
        return {
            name: alpha * norm + beta * _ratio(dense[name], context.group_energy_joules(name) * sparse_share)
            for name, norm in norms.items()
        }
    if allocation is Allocation.PAPER_CORRECTED:
        largest_norm = max(norms.values()) or 1.0
        total = sum(dense.values()) or 1.0
        # E_sparse / E_dense of the whole model if this group alone went sparse: least where it saves most.
        return {
            name: alpha * norm / largest_norm
            + beta * (1.0 - (1.0 - sparse_share) * context.group_energy_joules(name) / total)
            for name, norm in norms.items()
        }
    raise ValueError(f"equation 3 belongs to Paper and PaperCorrected, not {allocation}")


def remove_lowest(
    context: AllocationContext, importance: Mapping[str, float], *, step: float
) -> dict[str, tuple[int, ...]]:
    """Return the channels to keep when a share of all channels goes, least important group first.

    Inside a group the channels with the lowest score go first. No group goes below its smallest choice of width.

    Args:
        context: The model now.
        importance: An index for each group (lines 8 and 10 of Algorithm 1).
        step: Share of all channels to remove, 0..1.

    Returns:
        Kept channels of the groups that change; empty when nothing is left to remove.
    """
    left = round(step * sum(context.widths().values()))
    widths = {}
    for name in sorted(importance, key=lambda group: (importance[group], group)):
        choices = context.choices(name)
        width = len(context.scores[name])
        # The smallest permitted width that does not remove more than is left of the step.
        chosen = next(choice for choice in choices if width - choice <= left)
        if chosen < width:
            widths[name] = chosen
            left -= width - chosen
    return {name: strongest(context.scores[name], width) for name, width in widths.items()}


def remove_lowest_channels(context: AllocationContext, scores: Scores, *, step: float) -> dict[str, tuple[int, ...]]:
    """Return the channels to keep when the lowest of all channels go, wherever they are (global magnitude).

    Args:
        context: The model now.
        scores: A score for each channel, comparable between groups.
        step: Share of all channels to remove, 0..1.
    """
    everything = sorted((score, name) for name, values in scores.items() for score in values)
    going: dict[str, int] = {}
    for _, name in everything[: round(step * len(everything))]:
        going[name] = going.get(name, 0) + 1
    kept = {}
    for name, count in going.items():
        width = len(scores[name])
        # Round up to a permitted width: rounding down would remove more than was asked.
        chosen = next(choice for choice in context.choices(name) if choice >= width - count)
        if chosen < width:
            kept[name] = strongest(scores[name], chosen)
    return kept


def normalised(context: AllocationContext) -> Scores:
    """Return scores divided by their group's mean, so that groups can be compared."""
    result = {}
    for name, scores in context.scores.items():
        mean = sum(scores) / len(scores) or 1.0
        result[name] = tuple(score / mean for score in scores)
    return result


def strongest(scores: tuple[float, ...], count: int) -> tuple[int, ...]:
    """Return the indices of the highest scores, in order of index; of equals the earlier stays."""
    best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:count]
    return tuple(sorted(best))


def _ratio(dense: float, sparse: float) -> float:
    return dense / sparse if sparse > 0 else 0.0
