"""Where the joules go (Algorithm 1, line 7): each layer replayed alone, scaled to the whole model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.profiling.units import record_units
from coppice_pruner.profiling.window import EnergyCounter, measure_window
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
    synchronize: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[LayerProfile, ...]:
    """Measure what each layer costs.

    Args:
        model: Run in eval mode; not changed.
        example_inputs: One batch of samples; its size is the batch size of the profile.
        meter: Counts joules.
        window_seconds: Of one window; there is one for each layer and one for the model.
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
    batch = int(example_inputs[0].shape[0])
    with evaluating(model), torch.inference_mode():
        whole, windows = (
            measure_window(
                lambda: model(*example_inputs),
                meter, window_seconds=window_seconds, synchronize=synchronize, clock=clock,
            ),
            [
                measure_window(
                    unit.run, meter, window_seconds=window_seconds, synchronize=synchronize, clock=clock
                )
                for unit in units
            ],
        )  # fmt: skip
    total = sum(window.energy_joules for window in windows)
    return tuple(
        LayerProfile(
            layer=unit.layer,
            energy_joules=window.energy_joules / total * whole.energy_joules / batch,
            share=window.energy_joules / total,
            seconds=window.seconds / batch,
            replayed_joules=window.energy_joules / batch,
        )
        for unit, window in zip(units, windows, strict=True)
    )
