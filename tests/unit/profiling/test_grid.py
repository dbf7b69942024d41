"""Tables measured on a machine whose costs are known."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.profiling import CostModel, build_cost_model, grid, profile_layers
from coppice_pruner.profiling.units import Unit, resized
from coppice_pruner.surgery import find_groups, prune
from tests.unit.profiling.fakes import Machine
from tests.unit.surgery import networks

INPUTS = (torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)),)
NETWORKS = {
    "plain": networks.plain,
    "residual": networks.Residual,
    "concatenated": networks.Concatenated,
    "depthwise": networks.depthwise,
    "grouped": networks.grouped,
    "dense block": networks.Dense,
    "perceptron": networks.perceptron,
}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine, on which resized layers run as well."""
    made = Machine()

    def resized_there(unit: Unit, *, in_channels: int, out_channels: int) -> Unit:
        small = resized(unit, in_channels=in_channels, out_channels=out_channels)
        made.run(small.modules[0])
        return small

    monkeypatch.setattr(grid, "resized", resized_there)
    return made


def build(machine: Machine, model: nn.Module, *, budget_seconds: float = 0.0, multiple: int = 1) -> CostModel:
    groups = find_groups(model, INPUTS)
    machine.run(model)
    profiles = profile_layers(
        model, INPUTS, machine, window_seconds=1e-4, synchronize=machine.synchronize, clock=machine.clock
    )
    return build_cost_model(
        model, INPUTS, groups, profiles,
        budget_seconds=budget_seconds, multiple=multiple, synchronize=machine.synchronize, clock=machine.clock,
    )  # fmt: skip


def energy_of(machine: Machine, model: nn.Module) -> float:
    """Joules per inference of a model on the machine, by running it."""
    before = machine.read_joules()
    with torch.no_grad():
        model(*INPUTS)
    return (machine.read_joules() - before) / INPUTS[0].shape[0]


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())
def test_predictions_are_what_pruned_models_cost(
    make: Callable[[], nn.Module], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On this machine a cost is bilinear in the widths, so four corners are enough anywhere in between.
    monkeypatch.setattr(grid, "_POINT_SECONDS", (0.0, 0.0))
    dense = networks.seeded(make)
    groups = find_groups(dense, INPUTS)
    model = build(machine, dense)
    assert model.predict({}) == pytest.approx(energy_of(machine, dense), rel=1e-2)
    for atoms_left in (1, 2, 3):
        kept = {
            group.name: tuple(sorted(channel for atom in group.atoms[:atoms_left] for channel in atom))
            for group in groups
        }
        pruned = prune(dense, INPUTS, kept)
        widths = {name: len(indices) for name, indices in kept.items()}
        # Slicing copies the hooks along with the layers.
        assert model.predict(widths) == pytest.approx(energy_of(machine, pruned), rel=2e-2)


def test_grids_lie_on_whole_steps_and_become_finer_with_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(grid, "_POINT_SECONDS", (0.0, 0.0))
    model = nn.Sequential(
        nn.Conv2d(1, 60, 1), nn.ReLU(), nn.Conv2d(60, 48, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10)
    ).eval()
    coarse = {cost.layer: cost.table for cost in build(machine, model, multiple=2).layers}
    assert (coarse["2"].in_channels, coarse["2"].out_channels) == ((2, 64), (2, 48))
    assert coarse["0"].in_channels == (1,)
    # Wall-clock time, of which a busy machine may take much for the few seconds that this needs.
    fine = {cost.layer: cost.table for cost in build(machine, model, budget_seconds=250.0, multiple=2).layers}
    assert fine["2"].in_channels == (2, 8, 16, 24, 32, 40, 48, 56, 64)
    assert fine["2"].out_channels == (2, 8, 16, 24, 32, 40, 48)
    assert fine["5"].out_channels == (10,)


def test_the_building_keeps_to_its_budget() -> None:
    model = networks.seeded(networks.Residual)
    profiles = profile_layers(model, INPUTS, CountingMeter(), window_seconds=0.001, synchronize=lambda: None)
    begin = time.monotonic()
    build_cost_model(model, INPUTS, find_groups(model, INPUTS), profiles, budget_seconds=0.2)
    assert time.monotonic() - begin < 2.0


class CountingMeter:
    """A counter that only moves."""

    def __init__(self) -> None:
        self.joules = 0.0

    def read_joules(self) -> float:
        self.joules += 1.0
        return self.joules


def test_a_layer_without_a_profile_is_refused() -> None:
    model = networks.seeded(networks.plain)
    profiles = profile_layers(model, INPUTS, CountingMeter(), window_seconds=0.001, synchronize=lambda: None)
    with pytest.raises(InputRefusedError, match="layer 0 has no profile"):
        build_cost_model(model, INPUTS, find_groups(model, INPUTS), profiles[1:], budget_seconds=0.0)
