"""A layer, its norm and its activation are one unit; everything else is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coppice_pruner.profiling.units import Unit, record_units, resized, signature
from tests.unit.surgery import networks

INPUTS = (torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)),)


def units(model: nn.Module) -> dict[str, Unit]:
    return {unit.layer: unit for unit in record_units(model, INPUTS)}


def test_norm_activation_and_pool_belong_to_the_layer_before_them() -> None:
    model = networks.seeded(networks.plain)
    found = units(model)
    assert list(found) == ["0", "4", "8"]
    assert found["0"].modules == tuple(model[place] for place in range(4))  # type: ignore[index]
    assert found["8"].modules == (model[8],)  # type: ignore[index]


def test_a_norm_that_reads_something_else_is_not_part_of_a_unit() -> None:
    found = units(networks.seeded(networks.Dense))
    # The block's norm reads a concatenation, not the layer that was called last.
    assert [type(module).__name__ for module in found["first.2"].modules] == ["Conv2d"]


def test_a_unit_replays_what_the_model_gave_it() -> None:
    model = networks.seeded(networks.Residual)
    stem = units(model)["stem.0"]
    torch.testing.assert_close(stem.inputs[0], INPUTS[0])
    x = stem.inputs[0]
    for module in stem.modules:
        x = module(x)
    torch.testing.assert_close(x, model.stem(INPUTS[0]))  # type: ignore[operator]


def test_a_layer_called_twice_is_one_unit_with_two_inputs() -> None:
    assert len(units(networks.seeded(networks.CalledTwice))["shared"].inputs) == 2


def test_recording_leaves_no_hook_behind() -> None:
    model = networks.seeded(networks.plain)
    record_units(model, INPUTS)
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("make", "layer", "widths"),
    [
        (networks.plain, "0", (1, 3)),
        (networks.plain, "8", (48, 10)),
        (networks.depthwise, "3", (5, 5)),
        (networks.grouped, "2", (4, 6)),
        (networks.one_dimensional, "4", (3, 2)),
    ],
    ids=["convolution", "linear", "depthwise", "grouped", "one dimension"],
)
def test_a_resized_unit_runs_at_its_new_widths(make: type[nn.Module], layer: str, widths: tuple[int, int]) -> None:
    small = resized(units(networks.seeded(make))[layer], in_channels=widths[0], out_channels=widths[1])
    output = small.inputs[0]
    for module in small.modules:
        output = module(output)
    dimension = 1 if output.dim() > 2 else -1
    assert (small.inputs[0].shape[dimension], output.shape[dimension]) == widths


def test_units_share_a_table_only_when_they_cost_the_same() -> None:
    found = units(networks.seeded(networks.Residual))
    assert signature(found["stem.0"]) == signature(found["first.0"]), "widths are not part of it"
    assert signature(found["first.0"]) != signature(found["second"]), "norm and activation are"
    assert signature(found["second"]) != signature(found["head"])
