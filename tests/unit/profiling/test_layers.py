"""Layer energies on a machine whose costs are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coppice_pruner.errors import InputRefusedError, MeasurementFailedError
from coppice_pruner.profiling import LayerProfile, measure_window, profile_layers
from tests.unit.profiling.fakes import Machine
from tests.unit.surgery import networks

INPUTS = (torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)),)


def profile(machine: Machine, model: nn.Module) -> tuple[LayerProfile, ...]:
    machine.run(model)
    return profile_layers(
        model, INPUTS, machine, window_seconds=1e-3, synchronize=machine.synchronize, clock=machine.clock
    )


def test_layers_cost_what_the_machine_charges_for_them() -> None:
    machine, model = Machine(), networks.seeded(networks.plain)
    found = {item.layer: item for item in profile(machine, model)}
    # 4 images of 8x8, 8 outputs, 9 weights each; 4 images of 4x4, 6 outputs, 8 * 9 weights each; 4 rows of 96 * 10.
    want_seconds = {"0": 4 * 64 * 8 * 9e-9, "4": 4 * 16 * 6 * 72e-9, "8": 4 * 960e-9}
    for layer, seconds in want_seconds.items():
        assert found[layer].seconds == pytest.approx((seconds + machine.CALL_SECONDS) / 4, rel=1e-3)
        assert found[layer].replayed_joules == pytest.approx(found[layer].seconds * machine.WATTS, rel=1e-3)


def test_layers_sum_to_the_whole_model() -> None:
    class Slow(nn.Module):
        """Does something that no layer shows."""

        def __init__(self, machine: Machine) -> None:
            super().__init__()
            self.inner, self.machine = networks.seeded(networks.plain), machine

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.machine.seconds += 20e-6
            return self.inner(x)

    machine = Machine()
    found = profile(machine, Slow(machine))
    replayed = sum(item.replayed_joules for item in found)
    assert sum(item.energy_joules for item in found) == pytest.approx(replayed + 20e-6 * machine.WATTS / 4, rel=1e-3)
    assert sum(item.share for item in found) == pytest.approx(1.0)
    for item in found:
        assert item.energy_joules / replayed == pytest.approx(
            item.share * sum(other.energy_joules for other in found) / replayed
        )


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(InputRefusedError, match="no convolution or linear layer"):
        profile(Machine(), nn.Flatten())


def test_a_counter_that_stands_still_is_an_error_with_the_field_to_change() -> None:
    class Still(Machine):
        def read_joules(self) -> float:
            return 7.0

    machine = Still()
    with pytest.raises(MeasurementFailedError, match=r"measurement\.windowSeconds"):
        measure_window(lambda: None, machine, window_seconds=1e-6, synchronize=lambda: None, clock=machine.clock)


def test_a_window_waits_for_the_device_at_both_ends() -> None:
    machine, order = Machine(), []

    def work() -> None:
        order.append("work")
        machine.seconds += 1.0

    window = measure_window(
        work, machine, window_seconds=2.5, synchronize=lambda: order.append("wait"), clock=machine.clock
    )
    assert order == ["work"] * 3 + ["wait"] + ["work", "wait"] * 3
    assert (window.runs, window.seconds) == (3, pytest.approx(1.0))
    assert window.energy_joules == pytest.approx(machine.WATTS)
