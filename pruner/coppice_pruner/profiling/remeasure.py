"""Layers measured again at the widths they were predicted for.

What the tables say is a ratio: a layer at some widths over the same layer of the dense model. So both are run in
turn, each on the activations it was recorded with in its model.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from coppice_pruner.profiling.cost_model import CostModel, LayerCost
from coppice_pruner.profiling.timing import time_in_turn
from coppice_pruner.profiling.units import record_units

OFF_RATIO = 0.1
"""A prediction further off than this has the dearest layers measured again."""
REMEASURED_SHARE_RATIO = 0.8
"""Share of the predicted energy that the layers measured again have together."""
_LAYER_SECONDS = 0.02


def remeasure(
    cost_model: CostModel,
    dense: nn.Module,
    pruned: nn.Module,
    example_inputs: tuple[Tensor, ...],
    widths: Mapping[str, int],
    *,
    layers: Sequence[str] | None = None,
    synchronize: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return what layers of a pruned model cost, on the scale of their tables, in joules per inference.

    Args:
        cost_model: Built from the dense model.
        dense: As the cost model was built from; not changed.
        pruned: The same with its groups at `widths`; not changed.
        example_inputs: One batch for both.
        widths: Of the pruned model's groups.
        layers: Those to measure; None for all whose widths changed. What the pruned model does not have is left out.
        synchronize: Waits for the device.
        clock: Seconds.
    """
    wanted = {cost.layer for cost in _changed(cost_model, widths)}
    wanted &= wanted if layers is None else set(layers)
    before = {unit.layer: unit for unit in record_units(dense, example_inputs) if unit.layer in wanted}
    after = {unit.layer: unit for unit in record_units(pruned, example_inputs) if unit.layer in wanted}
    full = {cost.layer: cost.energy(cost_model.built_widths) for cost in cost_model.layers}
    result = {}
    for layer in before:
        if layer in after:
            was, now = time_in_turn(
                [before[layer].run, after[layer].run],
                seconds_each=_LAYER_SECONDS, synchronize=synchronize, clock=clock,
            )  # fmt: skip
            result[layer] = full[layer] * now / was
    return result


def dearest(cost_model: CostModel, widths: Mapping[str, int]) -> tuple[str, ...]:
    """Return the layers that changed and have most of the predicted energy of all that changed."""
    here = {**cost_model.built_widths, **widths}
    energies = {cost.layer: cost.energy(here) for cost in _changed(cost_model, widths)}
    total, reached, result = sum(energies.values()), 0.0, []
    for layer in sorted(energies, key=lambda name: -energies[name]):
        if reached >= REMEASURED_SHARE_RATIO * total:
            break
        result.append(layer)
        reached += energies[layer]
    return tuple(result)


def median_error_ratio(
    cost_model: CostModel, widths: Mapping[str, int], measured_joules: Mapping[str, float]
) -> float | None:
    """Return how far the tables were off, the median over layers; None where nothing was measured.

    Args:
        cost_model: As it was before it learned of these measurements.
        widths: Of the model that was measured.
        measured_joules: From `remeasure`.
    """
    here = {**cost_model.built_widths, **widths}
    told = {cost.layer: cost.energy(here) for cost in cost_model.layers}
    errors = [abs(told[layer] / joules - 1.0) for layer, joules in measured_joules.items() if joules > 0]
    return statistics.median(errors) if errors else None


def _changed(cost_model: CostModel, widths: Mapping[str, int]) -> list[LayerCost]:
    here, built = {**cost_model.built_widths, **widths}, cost_model.built_widths
    return [
        cost
        for cost in cost_model.layers
        if cost.energy(here) > 0
        and any(axis.channels(here) != axis.channels(built) for axis in (cost.reads, cost.writes))
    ]
