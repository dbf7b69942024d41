"""One door to every mode: what to keep in the next step."""

from __future__ import annotations

from coppice_api.prunejob import Algorithm, Allocation
from coppice_pruner.allocation.context import AllocationContext, predicted_energy
from coppice_pruner.allocation.knapsack import knapsack
from coppice_pruner.allocation.scoring import (
    layer_importance,
    normalised,
    remove_lowest,
    remove_lowest_channels,
    strongest,
)
from coppice_pruner.errors import InputRefusedError

Kept = dict[str, tuple[int, ...]]


def propose(context: AllocationContext, algorithm: Algorithm, *, step: float) -> Kept:
    """Return the channels to keep of the groups that change (Algorithm 1, lines 8 to 10).

    Args:
        context: The model now.
        algorithm: The spec's algorithm.
        step: Share to remove, 0..1: of the predicted energy for Knapsack, of all channels for the others.

    Returns:
        Indices into the widths now; empty when nothing is left to remove at this step.

    Raises:
        InputRefusedError: For a mode that this version does not have.
    """
    mode = algorithm.allocation
    if mode in (Allocation.PAPER, Allocation.PAPER_CORRECTED):
        alpha, beta = float(algorithm.alpha), float(algorithm.beta)
        return remove_lowest(context, layer_importance(context, mode, alpha=alpha, beta=beta), step=step)
    if mode is Allocation.MAGNITUDE:
        return remove_lowest_channels(context, normalised(context), step=step)
    if mode is Allocation.KNAPSACK:
        now = context.widths()
        widths = knapsack(context, (1.0 - step) * predicted_energy(context, now))
        return {name: strongest(context.scores[name], width) for name, width in widths.items() if width < now[name]}
    raise InputRefusedError(
        f"spec.algorithm.allocation {mode}: this version has Knapsack, Paper, PaperCorrected and Magnitude"
    )
