"""The L2 score against a loop that anyone can read."""

from __future__ import annotations

import torch

from coppice_pruner.saliency import l2_scores
from coppice_pruner.surgery import find_groups
from tests.unit.surgery import networks

INPUTS = (torch.zeros(1, 1, 8, 8),)


def test_scores_are_the_norms_of_the_producing_weights() -> None:
    model = networks.seeded(networks.Residual)
    groups = find_groups(model, INPUTS)
    scores = l2_scores(model, groups)
    for group in groups:
        for channel in range(group.width):
            total = 0.0
            for name in group.layers:
                for value in model.get_submodule(name).weight[channel].flatten().tolist():  # type: ignore[index,union-attr,operator]
                    total += value**2
            assert abs(float(scores[group.name][channel]) - total**0.5) < 1e-5


def test_a_dead_channel_scores_nothing() -> None:
    model = networks.seeded(networks.plain)
    with torch.no_grad():
        model[0].weight[3] = 0.0  # type: ignore[index,operator,union-attr]
    assert float(l2_scores(model, find_groups(model, INPUTS))["0"][3]) == 0.0
