"""What stays takes over what goes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from coppice_pruner.surgery import find_groups, input_moments, prune, refit, refitted
from tests.unit.surgery import networks

INPUTS = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_repeated_channel_is_not_missed() -> None:
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 5.0]]))
    a = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    inputs = torch.cat([a, 2 * a], dim=1)
    want = layer(inputs)
    refit(layer, input_moments(nn.Sequential(layer), ["0"], (inputs,))["0"], [1])
    torch.testing.assert_close(float(layer.weight.detach()[0, 0]), 13.0, rtol=1e-2, atol=0.0)
    torch.testing.assert_close(layer(inputs * torch.tensor([1.0, 0.0])), want, rtol=0.02, atol=0.02)


def test_a_layer_that_loses_everything_keeps_its_mean() -> None:
    layer = nn.Linear(3, 2)
    inputs = 5 + torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    want = layer(inputs).mean(dim=0)
    refit(layer, input_moments(nn.Sequential(layer), ["0"], (inputs,))["0"], [0, 1, 2])
    torch.testing.assert_close(layer.bias.detach(), want.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [networks.plain, networks.Residual], ids=["plain", "residual"])
def test_a_cut_model_is_nearer_to_the_one_it_was_cut_from(make: type[nn.Module]) -> None:
    model = networks.seeded(make).eval()
    before = copy.deepcopy(model.state_dict())
    group = find_groups(model, (INPUTS[:4],))[0]
    kept = tuple(range(group.width // 2))
    prepared = refitted(model, [(group, range(group.width // 2, group.width))], (INPUTS,))

    def distance(candidate: nn.Module) -> float:
        with torch.no_grad():
            return float((prune(candidate, (INPUTS[:4],), {group.name: kept})(INPUTS) - model(INPUTS)).square().mean())

    assert distance(prepared) < 0.9 * distance(model)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


class Positions(nn.Module):
    """A transposed check of shapes: channels last, any number of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x)
        return result


def test_sequences_are_rows_of_channels() -> None:
    inputs = torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(0))
    moments = input_moments(Positions(), ["layer"], (inputs,))["layer"]
    rows = inputs.reshape(-1, 4).double()
    torch.testing.assert_close(moments.mean, rows.mean(dim=0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(moments.second, rows.T @ rows / len(rows), rtol=1e-5, atol=1e-6)
