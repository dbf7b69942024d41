"""All widths at once: least saliency lost subject to a predicted energy.

A multiple-choice knapsack whose prices depend on each other: a layer's energy is a function of its input and its output
width, and these belong to different groups.

- Small instances are solved exactly, by trying every combination.
- For others, a ladder of prices lambda from "energy is free" to "energy is everything": at each, every group in turn
  takes the width with the least `loss + lambda * energy` given the others, until nothing moves (block-coordinate
  descent, which can only lower the sum). Relaxation leaves gaps between the rungs, so from each rung a walk widens one
  group at a time, best exchange first, up to the next. The candidates do not depend on the budget, so a larger budget
  never gets a worse answer.
- Which answer is best is only believed: with other sensitivities there are other answers, and where their networks can
  be measured, the one that changes least is proposed. So of proposals it holds only nearly that a larger budget is no
  worse.

Hardware's energy is a staircase, so the least loss within half a step may be the network that a whole step was taken
back for. A network that costs no more than one that was taken back is not proposed again; if nothing lies between that
and the budget, what saves most without reaching down to it is.

Source: Lagrangian relaxation of the MCKP, Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, chapter 11.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from coppice_api.prunejob import Saliency
from coppice_pruner.allocation.context import STEP_SHARE, AllocationContext, Kept

EXACT_COMBINATIONS = 2000
"""Combinations of widths up to which all are tried; tens of milliseconds."""
TRIES, _DOUBT = 12, 1.0
"""Networks that are measured before one is proposed, and how far sensitivities are in doubt: the standard deviation of
their logarithms. Measured on the same model after every fine-tuning they differ by as much."""
_SAME = 1e-9
"""Share of its energy within which a network costs the same."""
_RUNGS, _BISECTIONS = 48, 12
_PRICES = (1e-3, 1e6)
"""From where one joule of the whole model outweighs nothing to where it outweighs every group, in losses."""
_SWEEPS = 8


@dataclass
class Knapsack:
    """Chooses an aligned width for every group so that the least normalised saliency is lost within the budget."""

    exact_combinations: int = EXACT_COMBINATIONS
    saliency = Saliency.TAYLOR
    compares_groups = True
    beyond_paper = True

    def propose(self, context: AllocationContext, step: float) -> Kept:
        """Return what to keep when a share of its predicted energy goes.

        Losses add up only nearly. So several networks within the budget are found, each with other sensitivities as
        far as these are in doubt, and the one whose answers are nearest to the model's is proposed.
        """
        budget, limit, above = context.budget(step), context.latency_limit(step), context.refused_joules()
        problem = _Problem(context)
        first = self._solved(problem, budget, limit, above)
        if context.moved is None or context.energy.predict(first) > budget:
            return context.kept(first)
        generator = random.Random(0)  # noqa: S311
        doubted = (problem.doubted(generator) for _ in range(TRIES - 1))
        others = (problem.near(budget, limit, above_joules=above) for problem in doubted)
        found = {tuple(sorted(item.items())): context.kept(item) for item in (first, *others) if item is not None}
        networks = list(found.values())
        if len(networks) == 1:
            return networks[0]
        moved = context.moved(networks)
        return networks[min(range(len(networks)), key=lambda index: (moved[index], index))]

    def solve(
        self, context: AllocationContext, budget_joules: float, limit_seconds: float | None = None, *,
        above_joules: float = 0.0,
    ) -> dict[str, int]:  # fmt: skip
        """Return a width for every group, predicted within the budget; the cheapest widths known if none is.

        Args:
            context: The model now.
            budget_joules: Per inference.
            limit_seconds: A batch may take no longer; None for no limit.
            above_joules: Per inference; networks that cost no more are known to be too small.
        """
        return self._solved(_Problem(context), budget_joules, limit_seconds, above_joules)

    def _solved(
        self, problem: _Problem, budget_joules: float, limit_seconds: float | None, above_joules: float
    ) -> dict[str, int]:
        if math.prod(len(choices) for choices in problem.choices) <= self.exact_combinations:
            candidates = problem.all_candidates()
        else:
            candidates = problem.relaxed_candidates()
        best, cheapest = None, None
        for candidate in candidates:
            if candidate.energy <= above_joules * (1 + _SAME):
                continue
            if cheapest is None or (candidate.energy, candidate.loss) < (cheapest.energy, cheapest.loss):
                cheapest = candidate
            better = best is None or (candidate.loss, candidate.energy) < (best.loss, best.energy)
            if candidate.energy <= budget_joules and better and problem.in_time(candidate, limit_seconds):
                best = candidate
        chosen = best or cheapest
        return problem.widths(chosen.indices if chosen else problem.full)

    def after_rollback(self, context: AllocationContext) -> None:
        """Do nothing: the loop halves the step."""


@dataclass(frozen=True)
class _Candidate:
    indices: tuple[int, ...]
    loss: float
    energy: float


class _Problem:
    """The instance with groups and widths as indices."""

    def __init__(self, context: AllocationContext) -> None:
        self.energy = context.energy
        self.names = [group.name for group in context.groups]
        self.choices = [context.choices(group, least_share=STEP_SHARE, depth=True) for group in context.groups]
        self.losses = [group.losses(choices) for group, choices in zip(context.groups, self.choices, strict=True)]
        self.dropped = dict.fromkeys(context.dropped, 0)
        self.full = tuple(len(choices) - 1 for choices in self.choices)

    def doubted(self, generator: random.Random) -> _Problem:
        """Return the same instance with other sensitivities."""
        other = copy.copy(self)
        factors = [math.exp(generator.gauss(0.0, _DOUBT)) for _ in self.losses]
        other.losses = [
            tuple(factor * loss for loss in losses) for factor, losses in zip(factors, self.losses, strict=True)
        ]
        return other

    def widths(self, indices: tuple[int, ...]) -> dict[str, int]:
        here = {name: choices[index] for name, choices, index in zip(self.names, self.choices, indices, strict=True)}
        return self.dropped | here

    def candidate(self, indices: tuple[int, ...]) -> _Candidate:
        loss = math.fsum(losses[index] for losses, index in zip(self.losses, indices, strict=True))
        return _Candidate(indices, loss, self.energy.predict(self.widths(indices)))

    def in_time(self, candidate: _Candidate, limit_seconds: float | None) -> bool:
        return limit_seconds is None or self.energy.predict_seconds(self.widths(candidate.indices)) <= limit_seconds

    def all_candidates(self) -> Iterator[_Candidate]:
        for indices in itertools.product(*(range(len(choices)) for choices in self.choices)):
            yield self.candidate(indices)

    def relaxed_candidates(self) -> Iterator[_Candidate]:
        full = self.candidate(self.full)
        scale = max(full.energy, 1e-300)
        low, high = _PRICES
        rungs = {full.indices: full}
        indices = self.full
        for rung in range(_RUNGS):
            price = low * (high / low) ** (rung / (_RUNGS - 1)) / scale
            indices = self._descend(indices, price)
            rungs.setdefault(indices, self.candidate(indices))
        rungs.setdefault(zeros := tuple(0 for _ in self.full), self.candidate(zeros))
        ordered = sorted(rungs.values(), key=lambda item: (item.energy, item.indices))
        for here, above in itertools.zip_longest(ordered, ordered[1:]):
            yield here
            if above is not None:
                yield from self._walk(here, above.energy)

    def near(self, budget_joules: float, limit_seconds: float | None, *, above_joules: float) -> dict[str, int] | None:
        """Return a good answer for one budget, in a fraction of the time that candidates for all budgets take.

        Args:
            budget_joules: As `Knapsack.solve`.
            limit_seconds: As `Knapsack.solve`.
            above_joules: As `Knapsack.solve`.

        Returns:
            None if none was found.
        """
        scale = max(self.candidate(self.full).energy, 1e-300)
        low, high = _PRICES
        found = None
        for _ in range(_BISECTIONS):
            price = math.sqrt(low * high)
            here = self.candidate(self._descend(self.full, price / scale))
            if here.energy <= budget_joules:
                found, high = here, price
            else:
                low = price
        if found is None:
            return None
        *_, found = found, *self._walk(found, budget_joules * (1 + _SAME))
        if found.energy <= above_joules * (1 + _SAME) or not self.in_time(found, limit_seconds):
            return None
        return self.widths(found.indices)

    def _descend(self, indices: tuple[int, ...], price: float) -> tuple[int, ...]:
        now = list(indices)
        for _ in range(_SWEEPS):
            before = tuple(now)
            for position, name in enumerate(self.names):
                energies = self.energy.predict_choices(self.widths(tuple(now)), name, self.choices[position])
                # Of equals the first.
                now[position] = int(np.argmin(np.add(self.losses[position], np.multiply(price, energies))))
            if tuple(now) == before:
                break
        return tuple(now)

    def _walk(self, start: _Candidate, below_joules: float) -> Iterator[_Candidate]:
        """Widen one group at a time, most saliency for a joule first, while the energy stays below a bound."""
        here = start
        while True:
            positions = [place for place, index in enumerate(here.indices) if index < self.full[place]]
            wider = {self.names[place]: self.choices[place][here.indices[place] + 1] for place in positions}
            energies = self.energy.predict_each(self.widths(here.indices), wider)
            rates = {}
            for position, energy in zip(positions, energies, strict=True):
                if energy < below_joules:
                    losses, index = self.losses[position], here.indices[position]
                    rates[position] = (losses[index] - losses[index + 1]) / max(energy - here.energy, 1e-300)
            if not rates:
                return
            # Of equals the first.
            chosen = max(rates, key=lambda position: rates[position])
            indices = tuple(value + 1 if place == chosen else value for place, value in enumerate(here.indices))
            here = self.candidate(indices)
            yield here
