"""Which channels each mode keeps."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coppice_api.prunejob import Algorithm, Allocation
from coppice_pruner.allocation import AllocationContext, Layer, knapsack, layer_importance, predicted_energy, propose
from coppice_pruner.allocation.knapsack import saliency_lost
from coppice_pruner.errors import InputRefusedError

MODES = [Allocation.KNAPSACK, Allocation.PAPER, Allocation.PAPER_CORRECTED, Allocation.MAGNITUDE]


def two_groups(*, cheap_joules: float = 1.0, dear_joules: float = 9.0, multiple: int = 1) -> AllocationContext:
    """Two groups with equal scores; one costs much more than the other."""
    return AllocationContext(
        scores={"cheap": (1.0, 2.0, 3.0, 4.0), "dear": (1.0, 2.0, 3.0, 4.0)},
        layers=(
            Layer("first", cheap_joules, None, "cheap"),
            Layer("second", dear_joules, "cheap", "dear"),
            Layer("head", 0.1, "dear", None),
        ),
        multiple=multiple,
    )


@st.composite
def contexts(draw: st.DrawFn) -> AllocationContext:
    count = draw(st.integers(1, 3))
    score = st.floats(0.01, 10.0)
    names = [f"g{index}" for index in range(count)]
    scores = {name: tuple(draw(st.lists(score, min_size=1, max_size=5))) for name in names}
    joules = st.floats(0.01, 10.0)
    chain = [None, *names, None]
    layers = tuple(Layer(f"l{i}", draw(joules), chain[i], chain[i + 1]) for i in range(count + 1))
    return AllocationContext(scores=scores, layers=layers, fixed_energy_joules=draw(st.floats(0, 1)))


def all_widths(context: AllocationContext) -> list[dict[str, int]]:
    names = list(context.scores)
    return [
        dict(zip(names, widths, strict=True))
        for widths in itertools.product(*(context.choices(name) for name in names))
    ]


class TestEquation3:
    """The contradiction, with numbers: a group that once cost 9 J and now costs 3 J, beside one that costs 1 J."""

    CONTEXT = AllocationContext(
        scores={"cheap": (1.0,) * 4, "dear": (1.0,) * 4},
        layers=(Layer("first", 1.0, None, "cheap"), Layer("second", 3.0, None, "dear")),
        dense_energy_joules={"cheap": 1.0, "dear": 9.0},
    )

    def test_as_printed_it_protects_the_group_that_saves_most(self) -> None:
        index = layer_importance(self.CONTEXT, Allocation.PAPER, alpha=0.6, beta=0.4)
        assert index["cheap"] == pytest.approx(0.6 * 2.0 + 0.4 * 1.0 / 0.5)
        assert index["dear"] == pytest.approx(0.6 * 2.0 + 0.4 * 9.0 / 1.5)
        assert index["dear"] > index["cheap"]

    def test_corrected_it_removes_there_first(self) -> None:
        index = layer_importance(self.CONTEXT, Allocation.PAPER_CORRECTED, alpha=0.6, beta=0.4)
        assert index["dear"] < index["cheap"]

    @pytest.mark.parametrize(("mode", "want"), [(Allocation.PAPER, {"cheap"}), (Allocation.PAPER_CORRECTED, {"dear"})])
    def test_so_the_two_readings_remove_from_different_groups(self, mode: Allocation, want: set[str]) -> None:
        assert set(propose(self.CONTEXT, Algorithm(allocation=mode), step=0.25)) == want

    def test_without_beta_energy_has_no_say(self) -> None:
        for mode in (Allocation.PAPER, Allocation.PAPER_CORRECTED):
            index = layer_importance(self.CONTEXT, mode, alpha=1.0, beta=0.0)
            assert index["cheap"] == pytest.approx(index["dear"])


def test_knapsack_takes_from_where_the_joules_are() -> None:
    scores = (1.0, 2.0, 3.0, 4.0)
    layers = (Layer("first", 1.0, None, "cheap"), Layer("second", 9.0, None, "dear"))
    context = AllocationContext(scores={"cheap": scores, "dear": scores}, layers=layers)
    assert propose(context, Algorithm(), step=0.2) == {"dear": (1, 2, 3)}


def test_magnitude_takes_the_lowest_channels_wherever_they_are() -> None:
    context = AllocationContext(scores={"flat": (1.0, 1.0, 1.0), "steep": (0.1, 1.0, 1.9)}, layers=())
    assert propose(context, Algorithm(allocation=Allocation.MAGNITUDE), step=1 / 6) == {"steep": (1, 2)}


def test_widths_stay_multiples() -> None:
    context = two_groups(multiple=2)
    for mode in MODES:
        for step in (0.1, 0.3, 0.6, 0.95):
            for kept in propose(context, Algorithm(allocation=mode), step=step).values():
                assert len(kept) % 2 == 0


@pytest.mark.parametrize("mode", [Allocation.PER_JOULE, Allocation.UNIFORM])
def test_a_mode_that_is_not_there_is_refused_by_field(mode: Allocation) -> None:
    with pytest.raises(InputRefusedError, match=rf"spec\.algorithm\.allocation {mode}"):
        propose(two_groups(), Algorithm(allocation=mode), step=0.1)


@pytest.mark.parametrize("scores", [(), (-1.0,), (float("nan"),)])
def test_scores_that_mean_nothing_are_refused(scores: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="group g"):
        AllocationContext(scores={"g": scores}, layers=())


@given(contexts(), st.sampled_from(MODES), st.floats(0, 1))
def test_every_mode_keeps_the_strongest_and_never_empties_a_group(
    context: AllocationContext, mode: Allocation, step: float
) -> None:
    for name, kept in propose(context, Algorithm(allocation=mode), step=step).items():
        scores = context.scores[name]
        removed = [score for index, score in enumerate(scores) if index not in kept]
        assert kept
        assert removed
        assert max(removed) <= min(scores[index] for index in kept)


@given(contexts(), st.floats(0.05, 1.0))
def test_knapsack_meets_a_budget_that_can_be_met(context: AllocationContext, share: float) -> None:
    budget = share * predicted_energy(context, context.widths())
    smallest = {name: context.choices(name)[0] for name in context.scores}
    widths = knapsack(context, budget)
    assert predicted_energy(context, widths) <= budget or widths == smallest


@settings(max_examples=150)
@given(contexts(), st.floats(0.2, 1.0))
def test_knapsack_is_close_to_the_best_of_all_widths(context: AllocationContext, share: float) -> None:
    budget = share * predicted_energy(context, context.widths())
    feasible = [widths for widths in all_widths(context) if predicted_energy(context, widths) <= budget]
    if not feasible:
        return
    best = min(saliency_lost(context, widths) for widths in feasible)
    found = saliency_lost(context, knapsack(context, budget))
    # The relaxation leaves a gap on tiny instances: at most one channel's share of one group.
    largest_share = max(max(s**2 for s in scores) / sum(s**2 for s in scores) for scores in context.scores.values())
    assert best - 1e-9 <= found <= best + largest_share + 1e-9


@given(contexts())
def test_the_prediction_at_the_widths_now_is_the_sum_of_the_layers(context: AllocationContext) -> None:
    want = context.fixed_energy_joules + sum(layer.energy_joules for layer in context.layers)
    assert predicted_energy(context, context.widths()) == pytest.approx(want)
