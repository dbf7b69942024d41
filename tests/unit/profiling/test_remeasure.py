"""Layers measured again, on a machine whose costs are known."""

from __future__ import annotations

import pytest
import torch

from coppice_pruner.profiling import CostModel, dearest, median_error_ratio, remeasure
from coppice_pruner.report_page import Prediction, render
from coppice_pruner.surgery import find_groups, prune
from tests.unit.profiling.fakes import Machine
from tests.unit.profiling.test_cost_model import chain
from tests.unit.profiling.test_grid import INPUTS, build, energy_of
from tests.unit.profiling.test_grid import machine as machine  # a fixture
from tests.unit.report_page import pages
from tests.unit.surgery import networks


def pruned_on(machine: Machine) -> tuple[torch.nn.Module, torch.nn.Module, CostModel, dict[str, int]]:
    dense = networks.seeded(networks.plain)
    groups = find_groups(dense, INPUTS)
    model = build(machine, dense)
    kept = {group.name: tuple(range(group.width // 2)) for group in groups}
    widths = {name: len(indices) for name, indices in kept.items()}
    return dense, prune(dense, INPUTS, kept), model, widths


def test_what_is_measured_again_is_what_the_machine_charges(machine: Machine) -> None:
    dense, pruned, model, widths = pruned_on(machine)
    found = remeasure(model, dense, pruned, INPUTS, widths, clock=machine.clock)
    assert set(found) == {"0", "4", "8"}
    assert sum(found.values()) == pytest.approx(energy_of(machine, pruned), rel=1e-2)
    assert median_error_ratio(model, widths, found) == pytest.approx(0.0, abs=0.02)


def test_a_table_that_was_wrong_is_told_by_its_error_and_mended_by_the_points(machine: Machine) -> None:
    dense, pruned, model, widths = pruned_on(machine)
    right = sum(model.layer_energies(widths).values())
    wrong = model.with_points(widths, {cost.layer: 1.5 * cost.energy(widths) for cost in model.layers})
    found = remeasure(wrong, dense, pruned, INPUTS, widths, clock=machine.clock)
    assert median_error_ratio(wrong, widths, found) == pytest.approx(0.5, abs=0.05)
    assert sum(wrong.with_points(widths, found).layer_energies(widths).values()) == pytest.approx(right, rel=0.02)


def test_only_layers_whose_widths_changed_are_measured_and_the_dearest_come_first() -> None:
    # Joules of the first: 0.22; of the second, 1.38; the head reads b alone. Of b: second 1.38, head 3.8.
    assert dearest(chain(), {"a": 4}) == ("second",)
    assert dearest(chain(), {"b": 8}) == ("head", "second")
    assert dearest(chain(), {}) == ()
    assert median_error_ratio(chain(), {}, {}) is None


def test_the_report_says_how_far_off_the_tables_were() -> None:
    told = render(pages.page(predictions=(Prediction("Step 1", 1.0, 1.1),), layer_prediction_error_ratio=0.042))
    assert "Measured again one by one" in told
    assert "4.2" in told
