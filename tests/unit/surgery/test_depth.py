"""Branches that are dropped, heads that are removed, and channels found by trying."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from coppice_pruner.deployment import folded
from coppice_pruner.errors import InputRefusedError, InvariantViolatedError
from coppice_pruner.models import zoo
from coppice_pruner.models.attention import SelfAttention, with_separate_heads
from coppice_pruner.surgery import Blueprint, apply_plan, compose, find_groups, inspect_groups, to_steps
from coppice_pruner.surgery.branch import Constant
from coppice_pruner.surgery.elementwise import find_passages

IMAGES = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def resnet() -> nn.Module:
    torch.manual_seed(0)
    module = zoo.resnet(widths=(8, 16), blocks=2)
    # Statistics as after training: with those of a new network nothing would tell branches apart.
    module.train()
    with torch.no_grad():
        module(torch.randn(64, 1, 16, 16))
    return module.eval()


def vit() -> nn.Module:
    torch.manual_seed(0)
    return zoo.vit(image_size=16, patch=4, width=16, depth=2, heads=4, mlp_width=24).eval()


def blueprint(model: nn.Module) -> Blueprint:
    return Blueprint(find_groups(model, (IMAGES,)), (IMAGES,))


def layers(model: nn.Module) -> int:
    return sum(isinstance(item, (nn.Conv2d, nn.Linear)) for item in model.modules())


def test_what_a_residual_connection_passes_by_can_go_and_nothing_else() -> None:
    droppable = {group.name for group in find_groups(resnet(), (IMAGES,)) if group.droppable}
    assert droppable == {"0.3.conv1", "0.4.conv1", "0.5.conv1", "0.6.conv1"}
    torch.manual_seed(0)
    assert not any(group.droppable for group in find_groups(zoo.vgg(widths=[[8], [8]]), (IMAGES,)))


@pytest.mark.parametrize("model", [resnet(), vit()], ids=["convolutions", "attention"])
def test_a_dropped_branch_runs_no_more_and_changes_nothing_else(model: nn.Module) -> None:
    plan = blueprint(model)
    for group in [item for item in plan.groups if item.droppable]:
        pruned = plan.prune(model, {}, {group.name: ()})
        plan.check(model, pruned, {}, {group.name: ()}, (IMAGES,))
        assert layers(pruned) < layers(model)
        assert group.name not in {item.name for item in plan.groups_at(pruned, {group.name: ()})}


def test_every_branch_can_go_and_the_rest_can_still_be_narrowed() -> None:
    model = resnet()
    plan = blueprint(model)
    kept: dict[str, tuple[int, ...]] = {}
    pruned = model
    for further in (
        {group.name: () for group in plan.groups if group.droppable},
        {group.name: tuple(range(0, group.width, 2)) for group in plan.groups if not group.droppable},
    ):
        after = plan.prune(pruned, kept, further)
        plan.check(pruned, after, kept, further, (IMAGES,))
        pruned, kept = after, compose(kept, further)
    again = apply_plan(resnet(), (IMAGES,), to_steps(kept, plan.groups))
    again.load_state_dict(pruned.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(IMAGES), pruned(IMAGES), rtol=0, atol=0)


def test_a_wrong_drop_is_caught() -> None:
    model = resnet()
    plan = blueprint(model)
    pruned = plan.prune(model, {}, {"0.4.conv1": ()})
    with torch.no_grad():
        constant = next(item for item in pruned.modules() if isinstance(item, Constant))
        constant.bias += 1.0
    with pytest.raises(InvariantViolatedError, match=r"slicing 0\.4\.conv1"):
        plan.check(model, pruned, {}, {"0.4.conv1": ()}, (IMAGES,))


def test_a_group_that_carries_the_signal_cannot_be_dropped() -> None:
    torch.manual_seed(0)
    model = zoo.vgg(widths=[[8], [8]]).eval()
    plan = blueprint(model)
    with pytest.raises(InputRefusedError, match="at least one"):
        plan.prune(model, {}, {plan.groups[0].name: ()})


def test_activations_that_work_in_place_do_not_change_what_passes_by() -> None:
    class Inverted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 8, 3, padding=1)
            self.branch = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU6(inplace=True), nn.Conv2d(16, 8, 1))
            self.head = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            result: Tensor = self.head((x + self.branch(x)).mean(dim=(2, 3)))
            return result

    torch.manual_seed(0)
    model = Inverted().eval()
    plan = blueprint(model)
    assert [group.name for group in plan.groups if group.droppable] == ["branch.0"]
    plan.check(model, plan.prune(model, {}, {"branch.0": ()}), {}, {"branch.0": ()}, (IMAGES,))


def test_a_constant_has_the_shape_of_what_it_stands_for() -> None:
    assert Constant(torch.arange(3.0), spatial=2, stride=2)(torch.zeros(5, 7, 9, 8)).shape == (5, 3, 5, 4)
    assert Constant(torch.arange(3.0), spatial=0)(torch.zeros(5, 7, 9)).shape == (5, 7, 3)


def test_heads_go_one_by_one_and_the_rest_attend_as_before() -> None:
    model = vit()
    groups = {group.name: group for group in find_groups(model, (IMAGES,))}
    heads = groups["blocks.0.attention.q_proj"]
    assert heads.width == 4
    plan = blueprint(model)
    pruned = plan.prune(model, {}, {heads.name: (1, 3)})
    plan.check(model, pruned, {}, {heads.name: (1, 3)}, (IMAGES,))
    assert pruned.get_submodule("blocks.0.attention.q_proj").out_features == 8
    assert pruned.get_submodule("blocks.0.attention.o_proj").in_features == 8


def test_torchs_attention_is_replaced_by_one_whose_heads_can_go() -> None:
    torch.manual_seed(0)
    block = nn.ModuleDict({"attention": nn.MultiheadAttention(16, 4, batch_first=True)}).eval()
    x = torch.randn(2, 5, 16)
    with torch.inference_mode():
        want = block["attention"](x, x, x, need_weights=False)[0]
        got = with_separate_heads(copy.deepcopy(block))["attention"](x, x, x, need_weights=False)[0]
    torch.testing.assert_close(got, want)


def test_attention_that_is_not_known_keeps_its_heads_and_is_named() -> None:
    class OwnAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixed, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            parts = (item.unflatten(2, (4, 4)).transpose(1, 2) for item in self.mixed(x).chunk(3, dim=2))
            joined = nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
            result: Tensor = self.out(joined)
            return result

    model = vit()
    model.blocks[1].attention = nn.ModuleDict({"inner": OwnAttention()})  # type: ignore[index, union-attr]
    model.blocks[1].forward = lambda x: x + model.blocks[1].attention["inner"](x)  # type: ignore[index, union-attr]
    found = inspect_groups(model, (IMAGES,))
    assert [item.group for item in found.refused] == ["blocks.1.attention.inner"]
    assert "q_proj" in found.refused[0].reason
    assert {group.name for group in found.groups} == {"blocks.0.attention.q_proj", "blocks.0.mlp.0"}


def test_a_gate_and_what_it_gates_belong_together() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.gate, self.up, self.down = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x)
            result: Tensor = x + self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))
            return result

    torch.manual_seed(0)
    (passage,) = find_passages(Gated().eval(), (torch.randn(2, 3, 8),), without=())
    assert passage.producers == ("gate", "up")
    assert passage.readers == ("down",)
    assert passage.width == 12


def test_activations_that_work_in_place_hide_no_passage() -> None:
    blocks = [nn.Sequential(nn.Linear(8, width), nn.SiLU(inplace=True), nn.Linear(width, 8)) for width in (12, 16, 20)]
    torch.manual_seed(0)
    model = nn.Sequential(*blocks).eval()
    found = find_passages(model, (torch.randn(2, 3, 8),), without=())
    inside = [("0.0", "0.2", 12), ("1.0", "1.2", 16), ("2.0", "2.2", 20)]
    between = [("0.2", "1.0", 8), ("1.2", "2.0", 8)]
    assert sorted((*item.producers, *item.readers, item.width) for item in found) == sorted(inside + between)
    assert all("forward" not in vars(module) for module in model.modules())


def test_folding_keeps_the_outputs_and_leaves_no_norm() -> None:
    model = resnet()
    plan = blueprint(model)
    pruned = plan.prune(model, {}, {"0.4.conv1": (), "0.3.conv1": (0, 2, 5)})
    for module in (model, pruned):
        deployed = folded(module, (IMAGES,))
        assert not any(isinstance(item, nn.BatchNorm2d) for item in deployed.modules())
        with torch.inference_mode():
            torch.testing.assert_close(deployed(IMAGES), module(IMAGES), rtol=1e-4, atol=1e-5)


def test_a_norm_whose_input_is_read_elsewhere_is_not_folded() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.other = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            result: Tensor = self.norm(x) + self.other(x)
            return result

    deployed = folded(Shared().eval(), (IMAGES,))
    assert isinstance(deployed.norm, nn.BatchNorm2d)


def test_self_attention_has_heads_of_one_size() -> None:
    assert SelfAttention(16, 4)(torch.zeros(2, 3, 16))[0].shape == (2, 3, 16)
