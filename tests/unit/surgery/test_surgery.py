"""Pruning removes channels and changes nothing else."""

from __future__ import annotations

import copy
import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coppice_pruner.errors import InputRefusedError, InvariantViolatedError, SurgeryRefusedError
from coppice_pruner.surgery import (
    apply_plan,
    check_invariant,
    compose,
    find_groups,
    inspect_groups,
    masked_dense_difference,
    prune,
    restrict,
    to_steps,
)
from tests.unit.surgery import networks

INPUTS = (torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)),)
PRUNABLE = {
    "plain": networks.plain,
    "residual": networks.Residual,
    "concatenated": networks.Concatenated,
    "depthwise": networks.depthwise,
    "perceptron": networks.perceptron,
    "grouped": networks.grouped,
    "dense block": networks.Dense,
    "attention": networks.Attention,
    "one dimension": networks.one_dimensional,
}


def every_second(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {
        group.name: tuple(sorted(channel for atom in group.atoms[::2] for channel in atom))
        for group in find_groups(model, INPUTS)
    }


@pytest.mark.parametrize("make", PRUNABLE.values(), ids=PRUNABLE.keys())
class TestPrune:
    def test_the_sliced_model_is_the_masked_dense_model(self, make: type[nn.Module]) -> None:
        dense = networks.seeded(make)
        kept = every_second(dense)
        pruned = prune(dense, INPUTS, kept)
        assert masked_dense_difference(dense, pruned, kept, INPUTS) < 1e-5
        check_invariant(dense, pruned, kept, INPUTS)

    def test_widths_are_exactly_what_was_asked(self, make: type[nn.Module]) -> None:
        dense = networks.seeded(make)
        kept = every_second(dense)
        widths = {group.name: group.width for group in find_groups(prune(dense, INPUTS, kept), INPUTS)}
        assert widths == {name: len(indices) for name, indices in kept.items()}

    def test_the_model_given_is_not_changed(self, make: type[nn.Module]) -> None:
        dense = networks.seeded(make)
        before = copy.deepcopy(dense.state_dict())
        prune(dense, INPUTS, every_second(dense))
        torch.testing.assert_close(dense.state_dict(), before, rtol=0, atol=0)
        assert all(parameter.requires_grad for parameter in dense.parameters())

    def test_the_output_keeps_its_shape_and_differs_from_the_dense_one(self, make: type[nn.Module]) -> None:
        dense = networks.seeded(make)
        pruned = prune(dense, INPUTS, every_second(dense))
        assert pruned(*INPUTS).shape == (3, 10)
        assert not torch.allclose(pruned(*INPUTS), dense(*INPUTS))

    def test_a_plan_rebuilds_the_structure(self, make: type[nn.Module]) -> None:
        dense = networks.seeded(make)
        kept = every_second(dense)
        pruned = prune(dense, INPUTS, kept)
        rebuilt = apply_plan(networks.seeded(make), INPUTS, to_steps(kept, find_groups(dense, INPUTS)))
        rebuilt.load_state_dict(pruned.state_dict(), strict=True)
        torch.testing.assert_close(rebuilt.eval()(*INPUTS), pruned.eval()(*INPUTS), rtol=0, atol=1e-5)

    def test_two_steps_are_their_composition(self, make: type[nn.Module]) -> None:
        dense = networks.seeded(make)
        first = every_second(dense)
        halfway = prune(dense, INPUTS, first)
        second = {
            group.name: tuple(sorted(channel for atom in group.atoms[1:] for channel in atom))
            for group in find_groups(halfway, INPUTS)
        }
        stepwise = prune(halfway, INPUTS, second)
        at_once = prune(dense, INPUTS, compose(first, second))
        torch.testing.assert_close(at_once(*INPUTS), stepwise(*INPUTS), rtol=0, atol=1e-5)


def test_groups_join_what_a_residual_connection_joins() -> None:
    groups = {group.name: group for group in find_groups(networks.seeded(networks.Residual), INPUTS)}
    joined = next(group for group in groups.values() if group.width == 8)
    assert set(joined.layers) == {"stem.0", "second"}
    assert set(joined.consumers) == {"first.0", "head"}


def test_the_output_layer_is_left_alone() -> None:
    for make in PRUNABLE.values():
        model = networks.seeded(make)
        head = list(dict(model.named_modules()))[-1]
        assert all(head not in group.layers for group in find_groups(model, INPUTS))


def test_the_invariant_finds_a_model_that_was_changed_otherwise() -> None:
    dense = networks.seeded(networks.plain)
    kept = every_second(dense)
    tampered = prune(dense, INPUTS, kept)
    with torch.no_grad():
        tampered[0].weight[0] *= 1.5  # type: ignore[index,operator,union-attr]
    with pytest.raises(InvariantViolatedError, match="slicing 0, 4 changed the outputs"):
        check_invariant(dense, tampered, kept, INPUTS)


def test_the_invariant_finds_a_model_cut_in_other_places() -> None:
    dense = networks.seeded(networks.plain)
    kept = every_second(dense)
    other = {name: tuple(index + 1 for index in indices) for name, indices in kept.items()}
    with pytest.raises(InvariantViolatedError):
        check_invariant(dense, prune(dense, INPUTS, other), kept, INPUTS)


@pytest.mark.parametrize(
    ("make", "group", "want"),
    [
        (networks.Normalised, "first", "module norm: LayerNorm mixes channels.*use batch norm"),
        (networks.multiplier, "0", "module 2: a convolution of 4 groups from 8 to 4 channels"),
        (networks.SoftmaxOverChannels, "first", "module first: removing a channel changes what the others compute"),
        (networks.Attention, "query", "module query: the model does not run without some of its channels"),
        (networks.Attention, "embed", "module norm: LayerNorm mixes channels"),
        (networks.CalledTwice, "stem", "module shared: is called 2 times"),
        (networks.FeaturesToo, "second", "module second: .*tied to the model's outputs"),
    ],
    ids=["layer norm", "multiplier", "softmax", "head size", "residual stream", "called twice", "output"],
)
def test_what_cannot_be_held_to_the_invariant_is_refused_by_name(make: type[nn.Module], group: str, want: str) -> None:
    inspection = inspect_groups(networks.seeded(make), INPUTS)
    reasons = {refusal.group: refusal.reason for refusal in inspection.refused}
    assert re.search(want, reasons[group])
    assert group not in {item.name for item in inspection.groups}


def test_the_rest_of_a_model_is_pruned_beside_what_is_refused() -> None:
    assert [group.name for group in find_groups(networks.seeded(networks.Attention), INPUTS)] == ["up"]
    assert [group.name for group in find_groups(networks.seeded(networks.FeaturesToo), INPUTS)] == ["first"]


def test_a_model_in_which_everything_is_refused_is_refused_by_module() -> None:
    with pytest.raises(SurgeryRefusedError, match="no channels to prune: module norm: LayerNorm mixes channels"):
        find_groups(networks.seeded(networks.Normalised), INPUTS)


def test_a_model_that_cannot_be_traced_is_refused() -> None:
    with pytest.raises(SurgeryRefusedError, match="cannot be traced"):
        find_groups(nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)), INPUTS)


def test_a_model_with_nothing_to_prune_is_refused() -> None:
    with pytest.raises(SurgeryRefusedError, match="no channels to prune"):
        find_groups(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), INPUTS)


@pytest.mark.parametrize(
    ("kept", "want"),
    [
        ({"nowhere": (0,)}, "no group named 'nowhere'; the model has 0, 4"),
        ({"0": ()}, "at least one"),
        ({"0": (0, 8)}, "channels 0..7"),
        ({"0": (1, 1)}, "each once"),
    ],
    ids=["unknown group", "nothing left", "out of range", "twice"],
)
def test_a_plan_that_does_not_fit_is_refused(kept: dict[str, tuple[int, ...]], want: str) -> None:
    with pytest.raises(InputRefusedError, match=want):
        prune(networks.seeded(networks.plain), INPUTS, kept)


def test_a_plan_of_another_architecture_is_refused() -> None:
    dense = networks.seeded(networks.plain)
    steps = to_steps({"0": (0, 1)}, find_groups(dense, INPUTS))
    with pytest.raises(InputRefusedError, match="made from another one"):
        apply_plan(networks.seeded(networks.depthwise), INPUTS, [steps[0].model_copy(update={"width": 9})])


@given(st.data())
def test_composition_is_indexing_twice(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 12))
    subset = st.sets(st.integers(0, width - 1), min_size=1).map(sorted)
    first = data.draw(subset)
    second = data.draw(st.sets(st.integers(0, len(first) - 1), min_size=1).map(sorted))
    channels = list(range(100, 100 + width))
    want = [[channels[index] for index in first][index] for index in second]
    composed = compose({"g": first}, {"g": second})["g"]
    assert [channels[index] for index in composed] == want
    whole = {"g": composed, "h": (0, 2)}
    assert compose({"g": first}, restrict(whole, {"g": first})) == whole


def test_channels_of_a_grouped_convolution_go_together() -> None:
    model = networks.seeded(networks.grouped)
    groups = {group.name: group for group in find_groups(model, INPUTS)}
    assert groups["0"].atoms == ((0, 4), (1, 5), (2, 6), (3, 7))
    assert groups["2"].atom == 2
    with pytest.raises(InputRefusedError, match="channels 0, 4 must stay or go together"):
        prune(model, INPUTS, {"0": (0, 1, 5)})


def test_a_grouped_convolution_keeps_its_groups() -> None:
    pruned = prune(networks.seeded(networks.grouped), INPUTS, {"0": (1, 5), "2": (0, 2, 6, 8)})
    layer = pruned[2]  # type: ignore[index]
    assert (layer.in_channels, layer.out_channels, layer.groups) == (2, 4, 2)
    assert layer.weight.shape == (4, 1, 3, 3)


def test_constant_inputs_prove_nothing_and_are_refused() -> None:
    dense = networks.seeded(networks.plain)
    kept = every_second(dense)
    with pytest.raises(InputRefusedError, match="constant"):
        check_invariant(dense, prune(dense, INPUTS, kept), kept, (torch.zeros(3, 1, 8, 8),))


def test_the_invariant_finds_outputs_that_are_not_numbers() -> None:
    dense = networks.seeded(networks.plain)
    kept = every_second(dense)
    broken = prune(dense, INPUTS, kept)
    with torch.no_grad():
        broken[0].weight[0] = float("nan")  # type: ignore[index,operator,union-attr]
    with pytest.raises(InvariantViolatedError, match="nan"):
        check_invariant(dense, broken, kept, INPUTS)


def test_frozen_parameters_and_modes_stay_as_they_were() -> None:
    dense = networks.seeded(networks.plain).train()
    dense[1].eval()  # type: ignore[index]
    dense[0].weight.requires_grad_(False)  # type: ignore[index,union-attr,operator]
    kept = every_second(dense)
    pruned = prune(dense, INPUTS, kept)
    masked_dense_difference(dense, pruned, kept, INPUTS)
    for model in (dense, pruned):
        assert model[0].weight.requires_grad is False  # type: ignore[index,union-attr]
        assert model[4].weight.requires_grad is True  # type: ignore[index,union-attr]
        assert [module.training for module in model[:3]] == [True, False, True]  # type: ignore[index]


def test_groups_have_the_same_names_before_and_after_pruning() -> None:
    for make in PRUNABLE.values():
        dense = networks.seeded(make)
        names = [group.name for group in find_groups(dense, INPUTS)]
        assert names == [group.name for group in find_groups(prune(dense, INPUTS, every_second(dense)), INPUTS)]


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(PRUNABLE)), st.randoms(use_true_random=False))
def test_any_choice_of_channels_keeps_the_invariant(name: str, random: random.Random) -> None:
    dense = networks.seeded(PRUNABLE[name])
    kept = {}
    for group in find_groups(dense, INPUTS):
        chosen = random.sample(group.atoms, random.randint(1, len(group.atoms)))
        kept[group.name] = tuple(sorted(channel for atom in chosen for channel in atom))
    check_invariant(dense, prune(dense, INPUTS, kept), kept, INPUTS)


# At one channel a group, a depthwise and a dense convolution are the same module, so the graph draws other groups.
KEEP_THEIR_KIND = {name: make for name, make in PRUNABLE.items() if name not in ("depthwise", "grouped")}


@pytest.mark.parametrize("make", PRUNABLE.values(), ids=PRUNABLE.keys())
def test_a_cut_to_the_last_atom_keeps_the_invariant(make: type[nn.Module]) -> None:
    dense = networks.seeded(make)
    kept = {group.name: group.atoms[-1] for group in find_groups(dense, INPUTS)}
    check_invariant(dense, prune(dense, INPUTS, kept), kept, INPUTS)


@pytest.mark.parametrize("make", KEEP_THEIR_KIND.values(), ids=KEEP_THEIR_KIND.keys())
def test_groups_pruned_to_the_end_are_still_groups(make: type[nn.Module]) -> None:
    dense = networks.seeded(make)
    kept = {group.name: group.atoms[-1] for group in find_groups(dense, INPUTS)}
    pruned = prune(dense, INPUTS, kept)
    assert {group.name: group.width for group in find_groups(pruned, INPUTS)} == {
        name: len(indices) for name, indices in kept.items()
    }
