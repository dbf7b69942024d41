"""What every mode holds to, and the modes that know nothing of energy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coppice_api.prunejob import Allocation, Saliency
from coppice_pruner.allocation import AllocationContext, GroupState, PerJoule, Uniform, make_allocator
from coppice_pruner.allocation.context import STEP_SHARE
from coppice_pruner.errors import InputRefusedError
from tests.unit.allocation.instances import context, contexts

MODES = list(Allocation)


@settings(max_examples=200, deadline=None)
@given(contexts(), st.sampled_from(MODES), st.floats(0.001, 1.0))
def test_every_mode_keeps_the_strongest_at_permitted_widths(
    instance: AllocationContext, mode: Allocation, step: float
) -> None:
    for name, kept in make_allocator(mode).propose(instance, step).items():
        group = instance.group(name)
        removed = [score for index, score in enumerate(group.scores) if index not in kept]
        assert removed
        assert len(kept) in instance.choices(group)
        assert max(removed) <= min(group.scores[index] for index in kept)
        assert list(kept) == sorted(set(kept))


@settings(max_examples=200, deadline=None)
@given(contexts(), st.sampled_from(MODES), st.floats(0.001, 0.5))
def test_every_mode_goes_on_until_nothing_is_left(instance: AllocationContext, mode: Allocation, step: float) -> None:
    can_shrink = any(len(instance.choices(group)) > 1 for group in instance.groups)
    assert bool(make_allocator(mode).propose(instance, step)) == can_shrink


@pytest.mark.parametrize("mode", MODES)
def test_widths_are_multiples_and_never_below_the_least(mode: Allocation) -> None:
    instance = context({"a": [1.0 + i for i in range(20)], "b": [2.0] * 16}, multiple=4, min_width=6)
    for step in (0.01, 0.1, 0.3, 0.6, 0.95):
        for name, kept in make_allocator(mode).propose(instance, step).items():
            assert len(kept) % 4 == 0
            assert 8 <= len(kept) < instance.group(name).width


@pytest.mark.parametrize("mode", MODES)
def test_channels_that_belong_together_stay_or_go_together(mode: Allocation) -> None:
    atoms = ((0, 4), (1, 5), (2, 6), (3, 7))
    group = GroupState("g", (9.0, 1.0, 2.0, 3.0, 0.1, 2.0, 2.0, 3.0), 8, atoms)
    instance = AllocationContext((group,), context({"g": (1.0,) * 8}).energy)
    kept = make_allocator(mode).propose(instance, 0.5)["g"]
    assert all(set(atom) <= set(kept) or not set(atom) & set(kept) for atom in atoms)
    assert {0, 4} <= set(kept), "an atom is as strong as its channels together"


@pytest.mark.parametrize("mode", MODES)
def test_a_resumable_hook_exists_everywhere(mode: Allocation) -> None:
    instance = context({"g": (1.0, 2.0, 3.0)})
    allocator = make_allocator(mode)
    before = allocator.propose(instance, 0.4)
    allocator.after_rollback(instance)
    assert allocator.propose(instance, 0.4) == before, "one group: there is no balance to shift between groups"


def test_each_mode_names_the_scores_it_wants() -> None:
    want = {Allocation.KNAPSACK: Saliency.TAYLOR, Allocation.PER_JOULE: Saliency.TAYLOR}
    assert {mode: make_allocator(mode).saliency for mode in MODES} == {
        mode: want.get(mode, Saliency.L2) for mode in MODES
    }


def test_a_saliency_that_is_asked_for_takes_the_place_of_the_modes_own() -> None:
    assert make_allocator(Allocation.KNAPSACK, saliency=Saliency.HESSIAN).saliency is Saliency.HESSIAN
    assert make_allocator(Allocation.KNAPSACK).saliency is Saliency.TAYLOR


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (-0.1, 1.0), (float("nan"), 1.0)])
def test_weights_that_weigh_nothing_are_refused(alpha: float, beta: float) -> None:
    with pytest.raises(InputRefusedError, match=r"algorithm\.alpha"):
        make_allocator(Allocation.PAPER, alpha=alpha, beta=beta)


@pytest.mark.parametrize("scores", [(), (-1.0,), (float("nan"),), (float("inf"),)])
def test_scores_that_mean_nothing_are_refused(scores: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="group g"):
        GroupState("g", scores, 4)


def test_atoms_that_miss_a_channel_are_refused() -> None:
    with pytest.raises(ValueError, match="atoms must hold every channel once"):
        GroupState("g", (1.0, 2.0, 3.0), 3, ((0, 1),))


def test_magnitude_takes_the_lowest_channels_wherever_they_are() -> None:
    instance = context({"flat": (1.0, 1.0, 1.0), "steep": (0.1, 1.0, 1.9)})
    assert make_allocator(Allocation.MAGNITUDE).propose(instance, 1 / 6) == {"steep": (1, 2)}


def test_magnitude_compares_groups_of_different_scale_by_their_means() -> None:
    instance = context({"large": (90.0, 100.0, 110.0), "small": (0.1, 1.0, 1.9)})
    assert make_allocator(Allocation.MAGNITUDE).propose(instance, 1 / 6) == {"small": (1, 2)}


def test_uniform_takes_the_same_share_of_every_group() -> None:
    instance = context({"a": [1.0 + i for i in range(10)], "b": [1.0 + i for i in range(20)]})
    kept = Uniform().propose(instance, 0.2)
    assert {name: len(indices) for name, indices in kept.items()} == {"a": 8, "b": 16}


def test_uniform_moves_the_nearest_group_where_rounding_would_stop_it() -> None:
    instance = context({"narrow": (1.0,) * 8, "wide": (1.0,) * 64}, multiple=8)
    assert {name: len(kept) for name, kept in Uniform().propose(instance, 0.02).items()} == {"wide": 56}


def test_per_joule_takes_the_best_exchange_first() -> None:
    scores = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    instance = context({"cheap": scores, "between": (1.0,), "dear": scores}, slopes=(0.1, 0.1, 9.0, 0.1))
    assert PerJoule().propose(instance, step=0.15) == {"dear": (1, 2, 3, 4, 5)}


def test_per_joule_steps_over_a_flat_stair() -> None:
    class Staircase:
        """Widths 4 and 3 cost the same."""

        def predict(self, widths: dict[str, int]) -> float:
            return {4: 2.0, 3: 2.0, 2: 1.0, 1: 1.0}[widths["g"]]

        def predict_choices(self, widths: dict[str, int], group: str, choices: list[int]) -> list[float]:
            return [self.predict({**widths, group: choice}) for choice in choices]

        def group_energy(self, widths: dict[str, int], group: str) -> float:
            return self.predict(widths)

    group = GroupState("g", (1.0, 2.0, 3.0, 4.0), 4)
    instance = AllocationContext((group,), Staircase())  # type: ignore[arg-type]
    assert PerJoule().propose(instance, step=0.3) == {"g": (2, 3)}


@settings(max_examples=100, deadline=None)
@given(contexts(), st.floats(0.01, 0.9))
def test_per_joule_meets_its_budget_or_has_nothing_left_that_saves(instance: AllocationContext, step: float) -> None:
    kept = PerJoule().propose(instance, step)
    widths = {**instance.widths, **{name: len(indices) for name, indices in kept.items()}}
    smallest = {group.name: instance.choices(group, least_share=STEP_SHARE)[0] for group in instance.groups}
    assert instance.energy.predict(widths) <= instance.budget(step) + 1e-9 or widths == smallest
