"""Pruning removes channels and changes nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from coppice_pruner.errors import InputRefusedError, InvariantViolatedError, SurgeryRefusedError
from coppice_pruner.surgery import (
    apply_plan,
    check_invariant,
    compose,
    find_groups,
    masked_dense_difference,
    prune,
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
}


def every_second(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {group.name: tuple(range(0, group.width, 2)) for group in find_groups(model, INPUTS)}


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
        second = {group.name: tuple(range(1, group.width)) for group in find_groups(halfway, INPUTS)}
        stepwise = prune(halfway, INPUTS, second)
        at_once = prune(dense, INPUTS, compose(first, second))
        torch.testing.assert_close(at_once(*INPUTS), stepwise(*INPUTS), rtol=0, atol=1e-5)


def test_groups_join_what_a_residual_connection_joins() -> None:
    groups = {group.name: group for group in find_groups(networks.seeded(networks.Residual), INPUTS)}
    joined = next(group for group in groups.values() if group.width == 8)
    assert set(joined.producers) == {"stem.0", "second"}
    assert set(joined.consumers) == {"first.0", "head"}


def test_the_output_layer_is_left_alone() -> None:
    for make in PRUNABLE.values():
        model = networks.seeded(make)
        head = list(dict(model.named_modules()))[-1]
        assert all(head not in group.producers for group in find_groups(model, INPUTS))


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
    ("make", "want"),
    [
        (networks.Normalised, "module norm: LayerNorm mixes channels"),
        (networks.grouped, "module 1: a grouped convolution"),
    ],
    ids=["layer norm", "grouped"],
)
def test_what_cannot_be_held_to_the_invariant_is_refused_by_name(make: type[nn.Module], want: str) -> None:
    with pytest.raises(SurgeryRefusedError, match=want):
        find_groups(networks.seeded(make), INPUTS)


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
