"""How far answers move when channels of one group, or of several at once, are masked and the rest refitted."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from coppice_pruner.saliency import Divergences
from coppice_pruner.surgery import Blueprint, find_groups
from tests.unit.surgery import networks

INPUTS = (torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1)),)


@pytest.mark.parametrize("make", [networks.plain, networks.Residual, networks.Dense])
def test_a_cut_of_several_groups_moves_answers_as_the_sliced_and_refitted_model(make: type[nn.Module]) -> None:
    model = networks.seeded(make).eval()
    before = copy.deepcopy(model.state_dict())
    blueprint = Blueprint(find_groups(model, INPUTS), INPUTS)
    first, second = blueprint.groups[:2]
    cut = {group.name: range(group.width // 2, group.width) for group in (first, second)}
    kept = {group.name: range(group.width // 2) for group in (first, second)}
    sliced = blueprint.prune(blueprint.refitted(model, {}, kept, INPUTS), {}, kept)
    with torch.no_grad():
        clean, other = (functional.log_softmax(item(*INPUTS), dim=-1) for item in (model, sliced))
    want = float(functional.kl_div(other, clean, reduction="batchmean", log_target=True))
    divergences = Divergences(model, blueprint.groups, INPUTS)
    both, nothing = divergences.of([cut, {}])
    (one,) = divergences.of([{first.name: cut[first.name]}])
    assert nothing == pytest.approx(0.0, abs=1e-6)
    assert both == pytest.approx(want, rel=1e-3)
    assert one != pytest.approx(both, rel=0.01)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
