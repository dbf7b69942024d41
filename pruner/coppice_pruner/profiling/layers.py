"""Where the joules go (Algorithm 1, line 7): each layer replayed alone, scaled to the whole model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.profiling.allocator import keep_freed_memory
from coppice_pruner.profiling.timing import time_in_turn
from coppice_pruner.profiling.units import Unit, channels, record_units, signature
from coppice_pruner.profiling.window import EnergyCounter, Window, measure_window
from coppice_pruner.surgery import evaluating


@dataclass(frozen=True)
class LayerProfile:
    """One unit: a convolution or linear layer with its norm and activation."""

    layer: str
    energy_joules: float
    """Per inference, scaled so that all layers sum to the whole model's measurement."""
    share: float
    """Of the whole model's energy, 0..1."""
    seconds: float
    """Per inference, replayed alone."""
    replayed_joules: float
    """Per inference, replayed alone and not scaled. What the sum lacks to the whole model is everything that is not a
    layer: pooling, additions, launching."""


def profile_layers(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    meter: EnergyCounter,
    *,
    window_seconds: float,
    least_window_seconds: float = 0.0,
    budget_seconds: float = math.inf,
    synchronize: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[LayerProfile, ...]:
    """Measure what each layer costs.

    Layers of one kind and width share a window, in which they run one after another. Where the budget does not hold a
    window for every kind, the kinds that take longest get one, and the others are charged for their time at the power
    of those.

    Args:
        model: Run in eval mode; not changed.
        example_inputs: One batch of samples; its size is the batch size of the profile.
        meter: Counts joules.
        window_seconds: Of one window; there is one for each kind of layer and one for the model.
        least_window_seconds: Shorter windows say nothing with this meter (50 of its update periods).
        budget_seconds: Time for all windows of layers; they become shorter, then fewer, to keep to it.
        synchronize: Waits for the device.
        clock: Monotonic seconds.

    Returns:
        The layers in the order in which they run; their energies sum to the whole model's.

    Raises:
        InputRefusedError: If the model has no convolution or linear layer.
        MeasurementFailedError: If the counter did not move in a window.
    """
    units = record_units(model, example_inputs)
    if not units:
        raise InputRefusedError(f"model {type(model).__name__} has no convolution or linear layer to profile")
    keep_freed_memory()
    batch = int(example_inputs[0].shape[0])
    kinds: dict[tuple[object, ...], list[Unit]] = {}
    for unit in units:
        kinds.setdefault((signature(unit), channels(unit)), []).append(unit)
    window = max(least_window_seconds, min(window_seconds, budget_seconds / len(kinds)))
    affordable = len(kinds) if math.isinf(budget_seconds) else max(1, int(budget_seconds / window))

    def measured(work: Callable[[], object]) -> Window:
        return measure_window(
            work, meter, window_seconds=window, synchronize=synchronize, clock=clock
        )  # fmt: skip

    with evaluating(model), torch.inference_mode():
        whole = measured(lambda: model(*example_inputs))
        windows = _windows(kinds, affordable, measured, synchronize, clock)
    shared = {
        unit.layer: Window(windows[key].energy_joules / len(same), windows[key].seconds / len(same), windows[key].runs)
        for key, same in kinds.items()
        for unit in same
    }
    total = sum(item.energy_joules for item in shared.values())
    return tuple(
        LayerProfile(
            layer=unit.layer,
            energy_joules=shared[unit.layer].energy_joules / total * whole.energy_joules / batch,
            share=shared[unit.layer].energy_joules / total,
            seconds=shared[unit.layer].seconds / batch,
            replayed_joules=shared[unit.layer].energy_joules / batch,
        )
        for unit in units
    )


def _windows(
    kinds: Mapping[tuple[object, ...], Sequence[Unit]], affordable: int,
    measured: Callable[[Callable[[], object]], Window],
    synchronize: Callable[[], None], clock: Callable[[], float],
) -> dict[tuple[object, ...], Window]:  # fmt: skip
    """Return a window for each kind: measured for those that take longest, at their power for the others."""

    def work(same: Sequence[Unit]) -> Callable[[], None]:
        def run() -> None:
            for unit in same:
                unit.run()

        return run

    if affordable >= len(kinds):
        return {key: measured(work(same)) for key, same in kinds.items()}
    seconds = {
        key: time_in_turn([work(same)], seconds_each=0.0, synchronize=synchronize, clock=clock)[0]
        for key, same in kinds.items()
    }
    dearest = sorted(kinds, key=lambda key: -seconds[key])[:affordable]
    windows = {key: measured(work(kinds[key])) for key in dearest}
    watts = sum(window.energy_joules for window in windows.values()) / sum(w.seconds for w in windows.values())
    return {key: windows.get(key) or Window(watts * seconds[key], seconds[key], 1) for key in kinds}
