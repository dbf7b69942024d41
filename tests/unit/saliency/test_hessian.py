"""Hessian scores against the Gauss-Newton diagonal written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.saliency import hessian_scores
from coppice_pruner.surgery import find_groups
from tests.unit.surgery import networks

INPUTS = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2))
DRAWS = 600
"""Relative error of a mean square of so many draws: about sqrt(2 / 600), 6 %."""


def diagonal(model: nn.Module, reader: nn.Module, *, logits: bool) -> Tensor:
    """1/2 of the Gauss-Newton diagonal by a gate on every channel that a convolution reads: J^T C J over samples."""
    width = int(reader.weight.shape[1])  # type: ignore[union-attr]

    def outputs(gate: Tensor) -> Tensor:
        handle = reader.register_forward_pre_hook(lambda _module, given: (given[0] * gate.view(1, -1, 1, 1),))
        result: Tensor = model(INPUTS)
        handle.remove()
        return result

    jacobian = torch.autograd.functional.jacobian(outputs, torch.ones(width))
    chances = model(INPUTS).detach().softmax(dim=1)
    curvature = torch.diag_embed(chances) - chances[:, :, None] * chances[:, None, :]
    if not logits:
        curvature = torch.eye(chances.shape[1]).expand_as(curvature)
    return torch.einsum("ncg,ncd,ndg->ng", jacobian, curvature, jacobian).mean(dim=0) / 2


@pytest.mark.parametrize("logits", [True, False], ids=["classes", "numbers"])
def test_squares_are_half_the_gauss_newton_diagonal(logits: bool) -> None:
    model = networks.seeded(networks.plain).eval()
    groups = find_groups(model, (INPUTS,))
    scores = hessian_scores(model, groups, [(INPUTS,)] * DRAWS, seed=0, logits=logits)["0"]
    want = diagonal(model, model.get_submodule("4"), logits=logits)
    torch.testing.assert_close(scores.square(), want, rtol=0.35, atol=0.02 * float(want.max()))


def test_the_same_seed_gives_the_same_scores() -> None:
    model = networks.seeded(networks.plain)
    groups = find_groups(model, (INPUTS,))
    first, second = (hessian_scores(model, groups, [(INPUTS,)], seed=3) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_no_batch_is_refused_by_name() -> None:
    model = networks.seeded(networks.plain)
    with pytest.raises(InputRefusedError, match="Hessian saliency: there is no batch"):
        hessian_scores(model, find_groups(model, (INPUTS,)), [], seed=0)
