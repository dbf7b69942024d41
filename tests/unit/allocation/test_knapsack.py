"""The knapsack against trying everything."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coppice_pruner.allocation import AllocationContext, GroupState, Kept, Knapsack, Widths
from coppice_pruner.allocation.context import STEP_SHARE
from tests.unit.allocation.instances import context, contexts

RELAXED = Knapsack(exact_combinations=0)


def loss_of(instance: AllocationContext, widths: dict[str, int]) -> float:
    return sum(group.losses([widths[group.name]])[0] for group in instance.groups)


def all_widths(instance: AllocationContext) -> list[dict[str, int]]:
    names = [group.name for group in instance.groups]
    return [
        dict(zip(names, widths, strict=True))
        for widths in itertools.product(*(instance.choices(group, least_share=STEP_SHARE) for group in instance.groups))
    ]


def best_loss(instance: AllocationContext, budget: float) -> float | None:
    losses = [loss_of(instance, item) for item in all_widths(instance) if instance.energy.predict(item) <= budget]
    return min(losses, default=None)


@given(contexts(), st.floats(0.05, 1.1))
def test_small_instances_are_solved_exactly(instance: AllocationContext, share: float) -> None:
    budget = share * instance.energy.predict(instance.widths)
    widths = Knapsack().solve(instance, budget)
    want = best_loss(instance, budget)
    if want is None:
        cheapest = min(instance.energy.predict(item) for item in all_widths(instance))
        assert instance.energy.predict(widths) == pytest.approx(cheapest)
    else:
        assert instance.energy.predict(widths) <= budget
        assert loss_of(instance, widths) == pytest.approx(want)


@settings(max_examples=60, deadline=None)
@given(contexts(), st.floats(0.05, 1.1))
def test_the_relaxation_meets_every_budget_that_can_be_met(instance: AllocationContext, share: float) -> None:
    budget = share * instance.energy.predict(instance.widths)
    widths = RELAXED.solve(instance, budget)
    want = best_loss(instance, budget)
    if want is not None:
        assert instance.energy.predict(widths) <= budget
        assert loss_of(instance, widths) >= want - 1e-9


def test_the_relaxation_is_close_to_the_best_on_average() -> None:
    # One instance may leave a gap of about one atom, so the mean over many budgets is what is held.
    instance = context(
        {
            "a": [(7 * index) % 11 + 1.0 for index in range(8)],
            "b": [(5 * index) % 13 + 0.5 for index in range(8)],
            "c": [(3 * index) % 7 + 2.0 for index in range(8)],
        },
        slopes=(0.5, 1.0, 0.7, 0.2),
        overheads=(1.0, 0.5, 0.5, 0.2),
    )
    total = instance.energy.predict(instance.widths)
    gaps = []
    for share in (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.55, 0.5):
        want = best_loss(instance, share * total)
        assert want is not None
        gaps.append(loss_of(instance, RELAXED.solve(instance, share * total)) - want)
    assert sum(gaps) / len(gaps) < 0.03
    assert max(gaps) < 0.1


@settings(max_examples=60, deadline=None)
@given(contexts(), st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.sampled_from([Knapsack(), RELAXED]))
def test_a_larger_budget_never_loses_more(
    instance: AllocationContext, one: float, other: float, solver: Knapsack
) -> None:
    total = instance.energy.predict(instance.widths)
    tight, wide = (solver.solve(instance, share * total) for share in sorted((one, other)))
    if instance.energy.predict(tight) <= min(one, other) * total:
        assert loss_of(instance, wide) <= loss_of(instance, tight) + 1e-9


def test_joules_are_taken_where_they_are_cheap_to_give() -> None:
    scores = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    instance = context({"cheap": scores, "between": (1.0,), "dear": scores}, slopes=(0.1, 0.1, 9.0, 0.1))
    assert Knapsack().propose(instance, step=0.15) == {"dear": (1, 2, 3, 4, 5)}


def test_a_step_is_a_share_of_what_the_model_costs_now() -> None:
    half_done = context({"g": (1.0,) * 10}, dense={"g": 20}, slopes=(1.0, 0.0))
    kept = Knapsack().propose(half_done, step=0.1)
    assert len(kept["g"]) == 9, "0.1 of the 10 J that are left of 20 J"


def test_nothing_left_to_remove_is_an_empty_proposal() -> None:
    assert Knapsack().propose(context({"g": (1.0,), "h": (2.0,)}), step=0.5) == {}


@settings(max_examples=60, deadline=None)
@given(contexts(), st.floats(0.05, 0.5))
def test_a_network_that_was_taken_back_is_not_proposed_again_nor_a_cheaper_one(
    instance: AllocationContext, step: float
) -> None:
    now = instance.energy.predict(instance.widths)
    refused: list[Widths] = []
    while True:
        here = dataclasses.replace(instance, refused=tuple(refused))
        kept = RELAXED.propose(here, step)
        if not kept:
            break
        widths = {**instance.widths, **{name: len(stays) for name, stays in kept.items()}}
        assert here.refused_joules() < instance.energy.predict(widths) <= now
        refused.append(widths)
        step /= 2


def test_where_nothing_lies_between_what_was_taken_back_and_the_budget_a_step_is_smaller_than_asked() -> None:
    instance = context({"g": (1.0, 2.0, 3.0, 4.0)}, overheads=(100.0, 0.0))
    refused: tuple[Widths, ...] = ({"g": 2},)
    assert Knapsack().propose(dataclasses.replace(instance, refused=refused), step=0.9) == {"g": (1, 2, 3)}
    refused = (*refused, {"g": 3})
    assert Knapsack().propose(dataclasses.replace(instance, refused=refused), step=0.9) == {}


def test_a_step_that_cannot_be_met_goes_as_far_as_a_step_may() -> None:
    instance = context({"g": (1.0, 2.0, 3.0, 4.0)}, overheads=(100.0, 0.0))
    assert Knapsack().propose(instance, step=0.9) == {"g": (2, 3)}
    assert Knapsack().propose(context({"g": (2.0, 1.0)}, multiple=1), step=0.9) == {"g": (0,)}


def test_loss_is_the_share_that_goes_drawn_half_to_an_even_one() -> None:
    group = GroupState("g", (4.0, 3.0, 2.0, 1.0), 4)
    want = [1 / (0.5 * share + 0.5 * width / 4) - 1 for width, share in ((1, 16 / 30), (2, 25 / 30), (3, 29 / 30))]
    assert group.losses([1, 2, 3, 4]) == pytest.approx((*want, 0.0))


def test_channels_that_all_score_nothing_are_lost_evenly() -> None:
    assert GroupState("g", (0.0, 0.0), 2).losses([1, 2]) == pytest.approx((1.0, 0.0))


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=8))
def test_fewer_channels_never_lose_less(scores: list[float]) -> None:
    losses = GroupState("g", tuple(scores), len(scores)).losses(range(1, len(scores) + 1))
    assert all(narrow >= wide for narrow, wide in itertools.pairwise(losses))


def test_twenty_groups_are_solved_in_seconds() -> None:
    # 20 groups of 64 channels at a multiple of 8: 8 ** 20 combinations.
    instance = context(
        {f"g{index}": [1.0 + (index * 37 + channel * 17) % 64 for channel in range(64)] for index in range(20)},
        multiple=8,
    )
    budget = 0.5 * instance.energy.predict(instance.widths)
    widths = Knapsack().solve(instance, budget)
    assert 0.8 * budget < instance.energy.predict(widths) <= budget


def test_a_latency_limit_binds_where_the_energy_does_not() -> None:
    instance = context({"a": (1.0,) * 4, "b": (1.0,) * 4}, slopes=(1.0, 1.0, 5.0))
    free = Knapsack().solve(instance, budget_joules=1e9)
    assert free == {"a": 4, "b": 4}
    limit = instance.energy.predict_seconds({"a": 4, "b": 2})
    bound = Knapsack().solve(instance, budget_joules=1e9, limit_seconds=limit)
    assert instance.energy.predict_seconds(bound) <= limit


def test_latency_comes_down_with_the_energy_until_it_is_low_enough() -> None:
    instance = context({"a": (1.0,) * 4})
    dense = instance.energy.predict_seconds(instance.dense_widths)
    assert instance.latency_limit(0.2) is None
    assert dataclasses.replace(instance, max_seconds=dense / 10).latency_limit(0.2) == pytest.approx(0.8 * dense)
    assert dataclasses.replace(instance, max_seconds=0.9 * dense).latency_limit(0.2) == pytest.approx(0.9 * dense)


@settings(max_examples=40, deadline=None)
@given(contexts(), st.floats(0.05, 0.9), st.integers(0, 1000))
def test_of_the_networks_within_the_budget_the_one_that_moves_answers_least_is_proposed(
    instance: AllocationContext, step: float, seed: int
) -> None:
    asked: list[Kept] = []

    def moved(proposals: Sequence[Kept]) -> list[float]:
        asked.extend(proposals)
        return [_distance(kept, seed) for kept in proposals]

    kept = Knapsack().propose(dataclasses.replace(instance, moved=moved), step)
    plain = Knapsack().propose(instance, step)
    if not asked:
        assert kept == plain
        return
    assert plain in asked
    assert kept == min(asked, key=lambda item: _distance(item, seed))
    for item in asked:
        widths = {**instance.widths, **{name: len(stays) for name, stays in item.items()}}
        assert instance.energy.predict(widths) <= instance.budget(step)


def test_a_group_that_only_seemed_free_is_left_alone_where_that_is_measured() -> None:
    instance = context({"a": [1.0] * 8, "b": [1.1] * 8})

    def moved(proposals: Sequence[Kept]) -> list[float]:
        return [10.0 if "a" in kept else 1.0 for kept in proposals]

    assert "a" in Knapsack().propose(instance, 0.25)
    assert set(Knapsack().propose(dataclasses.replace(instance, moved=moved), 0.25)) == {"b"}


def _distance(kept: Kept, seed: int) -> float:
    return zlib.crc32(f"{seed} {sorted(kept.items())}".encode())
