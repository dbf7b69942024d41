"""All widths at once: least saliency lost subject to a predicted energy.

A multiple-choice knapsack whose costs are products of widths, so one group's price depends on its neighbours'.
For a price of energy lambda, each group in turn takes the width with the least `loss + lambda * energy` given the
others (block-coordinate descent, which can only lower the sum); bisection on lambda meets the budget.

Source: Lagrangian relaxation of the MCKP, Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, chapter 11.
"""

from __future__ import annotations

from collections.abc import Mapping

from coppice_pruner.allocation.context import AllocationContext, predicted_energy

_SWEEPS = 20
_BISECTIONS = 60


def knapsack(context: AllocationContext, budget_joules: float) -> dict[str, int]:
    """Return a width for every group with predicted energy within the budget, or the smallest widths.

    A lower budget never gets a higher predicted energy: the price only rises.

    Args:
        context: The model now.
        budget_joules: Per inference.
    """
    now = context.widths()
    if predicted_energy(context, now) <= budget_joules:
        return now
    losses = {name: _losses(scores) for name, scores in context.scores.items()}
    low, high = 0.0, 1.0 / max(predicted_energy(context, now), 1e-300)
    best = _at_price(context, losses, high)
    while predicted_energy(context, best) > budget_joules:
        if high > 1e300 or best == {name: context.choices(name)[0] for name in now}:
            return best
        low, high = high, high * 4
        best = _at_price(context, losses, high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        widths = _at_price(context, losses, middle)
        if predicted_energy(context, widths) <= budget_joules:
            high, best = middle, widths
        else:
            low = middle
    return _refill(context, losses, best, budget_joules)


def saliency_lost(context: AllocationContext, widths: Mapping[str, int]) -> float:
    """Return the objective: for each group the share of its squared score that goes, summed."""
    return sum(_losses(context.scores[name])[width] for name, width in widths.items())


def _at_price(context: AllocationContext, losses: Mapping[str, tuple[float, ...]], price: float) -> dict[str, int]:
    widths = context.widths()
    for _ in range(_SWEEPS):
        before = dict(widths)
        for name in widths:
            widths[name] = min(
                context.choices(name),
                key=lambda width: (
                    losses[name][width] + price * predicted_energy(context, {**widths, name: width}),
                    width,
                ),
            )
        if widths == before:
            break
    return widths


def _refill(
    context: AllocationContext, losses: Mapping[str, tuple[float, ...]], widths: dict[str, int], budget_joules: float
) -> dict[str, int]:
    """Spend what the relaxation's gap left over: widen whatever saves most saliency and still fits."""
    widths = dict(widths)
    while True:
        candidates = []
        for name, width in widths.items():
            wider = next((choice for choice in context.choices(name) if choice > width), None)
            if wider is not None and predicted_energy(context, {**widths, name: wider}) <= budget_joules:
                candidates.append((losses[name][width] - losses[name][wider], name, wider))
        if not candidates:
            return widths
        _, name, wider = max(candidates)
        widths[name] = wider


def _losses(scores: tuple[float, ...]) -> tuple[float, ...]:
    """Return the share of the squared score that is lost at each width 0..n, keeping the strongest."""
    squares = sorted((score**2 for score in scores), reverse=True)
    total = sum(squares) or 1.0
    lost = [total]
    for square in squares:
        lost.append(lost[-1] - square)
    return tuple(max(0.0, value / total) for value in lost)
