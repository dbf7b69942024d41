"""Taylor scores against gates: multiply each channel where it is read by a variable, and differentiate that."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.saliency import taylor_scores
from coppice_pruner.surgery import ChannelGroup, Side, find_groups
from tests.unit.surgery import networks

GENERATOR = torch.Generator().manual_seed(2)
INPUTS = torch.randn(6, 1, 8, 8, generator=GENERATOR)
LABELS = torch.randint(0, 10, (6,), generator=GENERATOR)
BATCHES = [((INPUTS[:3],), LABELS[:3]), ((INPUTS[3:],), LABELS[3:])]
NETWORKS = {
    "plain": networks.plain,
    "residual": networks.Residual,
    "concatenated": networks.Concatenated,
    "depthwise": networks.depthwise,
    "grouped": networks.grouped,
    "dense block": networks.Dense,
}


def gated_change(model: nn.Module, group: ChannelGroup, images: Tensor, labels: Tensor) -> Tensor:
    """d loss / d gate at gate = 1, for a gate on every channel of the group in front of every reader."""
    gate = torch.ones(group.width, requires_grad=True)
    handles = []
    for coupling in group.couplings:
        if coupling.side is Side.INPUT:

            def multiply(module: nn.Module, inputs: tuple[Tensor, ...], coupling: object = coupling) -> tuple[Tensor]:
                (x,) = inputs
                dimension = 1 if isinstance(module, nn.Conv2d) else x.dim() - 1
                factors = []
                for index in range(x.shape[dimension]):
                    owners = [c for c, indices in enumerate(coupling.channels) if index in indices]  # type: ignore[attr-defined]
                    factors.append(gate[owners[0]] if owners else torch.tensor(1.0))
                shape = [1] * x.dim()
                shape[dimension] = -1
                return (x * torch.stack(factors).reshape(shape),)

            handles.append(model.get_submodule(coupling.module).register_forward_pre_hook(multiply))
    loss = functional.cross_entropy(model(images), labels)
    for handle in handles:
        handle.remove()
    return torch.autograd.grad(loss, gate)[0]


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())
def test_scores_are_the_root_mean_square_of_the_gates_gradients(make: type[nn.Module]) -> None:
    model = networks.seeded(make)
    groups = find_groups(model, (INPUTS,))
    scores = taylor_scores(model, groups, BATCHES, functional.cross_entropy)
    for group in groups:
        changes = torch.stack([gated_change(model, group, images, labels) for (images,), labels in BATCHES])
        torch.testing.assert_close(scores[group.name], changes.square().mean(dim=0).sqrt(), rtol=1e-3, atol=1e-6)


def test_a_channel_that_nobody_reads_scores_nothing_and_others_do() -> None:
    model = networks.seeded(networks.plain)
    with torch.no_grad():
        model[4].weight[:, 3] = 0.0  # type: ignore[index,operator,union-attr]
    scores = taylor_scores(model, find_groups(model, (INPUTS,)), BATCHES, functional.cross_entropy)["0"]
    assert float(scores[3]) == 0.0
    assert float(scores.sum()) > 0.0


def test_the_model_is_not_changed() -> None:
    model = networks.seeded(networks.Residual).train()
    model.head.weight.requires_grad_(False)  # type: ignore[union-attr,operator]
    before = copy.deepcopy(model.state_dict())
    taylor_scores(model, find_groups(model, (INPUTS,)), BATCHES, functional.cross_entropy)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.head.weight.requires_grad is False  # type: ignore[union-attr]
    assert all(module.training for module in model.modules())


def test_scores_come_out_under_no_grad_too() -> None:
    model = networks.seeded(networks.plain)
    with torch.no_grad():
        scores = taylor_scores(model, find_groups(model, (INPUTS,)), BATCHES, functional.cross_entropy)
    assert float(scores["0"].sum()) > 0.0


@pytest.mark.parametrize(
    ("batches", "want"),
    [([], "no batch"), ([((INPUTS * float("nan"),), LABELS)], "group 0 has scores that are not finite")],
    ids=["no batch", "not a number"],
)
def test_what_gives_no_scores_is_refused(batches: list[tuple[Tensor, Tensor]], want: str) -> None:
    model = networks.seeded(networks.plain)
    with pytest.raises(InputRefusedError, match=want):
        taylor_scores(model, find_groups(model, (INPUTS,)), batches, functional.cross_entropy)
