"""A pruned model is given what another one learned, channel by channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from coppice_pruner.models import zoo
from coppice_pruner.surgery import Blueprint, ChannelGroup, find_groups
from tests.unit.surgery import networks

INPUTS = (torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)),)


def _resnet() -> nn.Module:
    return zoo.resnet(widths=[8, 16], blocks=1, classes=10)


def _vit() -> nn.Module:
    return zoo.vit(image_size=8, patch=2, width=16, depth=2, heads=4, mlp_width=32, classes=10)


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize(
    "make", [networks.plain, networks.Residual, networks.Concatenated, networks.Dense, _resnet, _vit],
    ids=["plain", "residual", "concatenated", "dense", "resnet", "vit"],
)  # fmt: skip
def test_channels_that_both_have_are_the_teachers_and_the_others_stay(
    make: Callable[[], nn.Module], place: int
) -> None:
    model = networks.seeded(make).eval()
    blueprint = Blueprint(find_groups(model, INPUTS), INPUTS)
    group = blueprint.groups[place]
    half, most = _channels(group, 1), _channels(group, 3)
    teacher, pupil = (blueprint.prune(model, {}, {group.name: kept}) for kept in (half, most))
    untaught = {name: item.clone() for name, item in _numbers(pupil)}
    with torch.no_grad():
        for _, item in _numbers(teacher):
            item.add_(100)
    blueprint.teach(pupil, model, {}, {group.name: most}, teacher, {group.name: half})
    # Cut once more, the pupil has the teacher's channels only.
    again = blueprint.prune(pupil, {group.name: most}, {group.name: tuple(most.index(item) for item in half)})
    torch.testing.assert_close(dict(_numbers(again)), dict(_numbers(teacher)), rtol=0, atol=0)
    changed = {name: (item - untaught[name]).abs() for name, item in _numbers(pupil)}
    stayed = sum(int((item == 0).sum()) for item in changed.values())
    taught = sum(int((item > 50).sum()) for item in changed.values())
    learned = sum(item.numel() for _, item in _numbers(teacher))
    assert taught == learned
    assert stayed == sum(item.numel() for item in untaught.values()) - learned


def test_a_branch_that_the_teacher_lacks_stays_as_it_was() -> None:
    model = networks.seeded(networks.Residual).eval()
    blueprint = Blueprint(find_groups(model, INPUTS), INPUTS)
    branch = next(group for group in blueprint.groups if group.droppable)
    teacher = blueprint.prune(model, {}, {branch.name: ()})
    pupil = blueprint.prune(model, {}, {})
    with torch.no_grad():
        teacher.get_parameter("head.weight").add_(1)
    blueprint.teach(pupil, model, {}, {}, teacher, {branch.name: ()})
    torch.testing.assert_close(pupil.get_parameter("head.weight"), model.get_parameter("head.weight") + 1)
    for name in ("first.0.weight", "second.weight"):
        torch.testing.assert_close(pupil.get_parameter(name), model.get_parameter(name), rtol=0, atol=0)


def test_a_model_that_was_not_cut_so_is_refused() -> None:
    model = networks.seeded(networks.plain).eval()
    blueprint = Blueprint(find_groups(model, INPUTS), INPUTS)
    group = blueprint.groups[0]
    pupil = blueprint.prune(model, {}, {group.name: _channels(group, 3)})
    with pytest.raises(ValueError, match="was not cut so"):
        blueprint.teach(pupil, model, {}, {group.name: _channels(group, 2)}, model, {})


def _channels(group: ChannelGroup, quarters: int) -> Sequence[int]:
    atoms = group.atoms or [(channel,) for channel in range(group.width)]
    return tuple(sorted(channel for place, atom in enumerate(atoms) if place % 4 < quarters for channel in atom))


def _numbers(model: nn.Module) -> list[tuple[str, Tensor]]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return [(name, item.detach()) for name, item in named if item.is_floating_point()]
