"""Equation 3 in both readings: the contradiction, with numbers.

Two layers of equal norm. The costly one is nearly all multiplications, so halving it saves nearly half of its 10 J; the
cheap one is nearly all overhead.
"""

from __future__ import annotations

import pytest

from coppice_api.prunejob import Allocation
from coppice_pruner.allocation import Magnitude, Paper, PaperCorrected, make_allocator
from coppice_pruner.allocation.equation3 import balance
from tests.unit.allocation.instances import context

# cheap: 0.8 + 0.05 * 4 = 1.0 J, halved 0.9 J. costly: 0.4 + 0.6 * 4 * 4 = 10 J, halved 5.2 J. The head costs nothing.
TWO = context({"cheap": (1.0,) * 4, "costly": (1.0,) * 4}, slopes=(0.05, 0.6, 0.0), overheads=(0.8, 0.4, 0.0))


def test_as_printed_the_costliest_layer_is_the_most_important() -> None:
    index = Paper(0.6, 0.4).importance(TWO)
    assert index["cheap"] == pytest.approx(0.6 * 2.0 + 0.4 * 1.0 / 0.9)
    assert index["costly"] == pytest.approx(0.6 * 2.0 + 0.4 * 10.0 / 5.2)
    assert index["costly"] > index["cheap"]


def test_as_printed_the_costliest_layer_is_protected_and_little_is_saved() -> None:
    kept = Paper(0.6, 0.4).propose(TWO, step=0.25)
    assert set(kept) == {"cheap"}
    # Only indirectly: the costly layer reads the cheap one's channels.
    assert len(kept["cheap"]) == 2


def test_corrected_the_costliest_layer_loses_channels_first() -> None:
    # Joules of the whole model with the costly layer's input at half are counted where they fall: to the group whose
    # width saves them. A costly layer behind fixed inputs keeps the two apart.
    apart = context({"cheap": (1.0,) * 4, "costly": (1.0,) * 4}, slopes=(0.05, 0.6, 0.9), overheads=(0.8, 0.4, 0.0))
    index = PaperCorrected(0.6, 0.4).importance(apart)
    dense = apart.energy.predict({})
    assert index["costly"][0] == pytest.approx(0.6 + 0.4 * apart.energy.predict({"costly": 2}) / dense)
    assert index["costly"][0] < index["cheap"][0]
    assert set(PaperCorrected(0.6, 0.4).propose(apart, step=0.25)) == {"costly"}
    assert set(Paper(0.6, 0.4).propose(apart, step=0.25)) == {"cheap"}


def test_inside_a_layer_the_weakest_channels_go() -> None:
    uneven = context({"g": (3.0, 1.0, 2.0, 4.0)})
    assert Paper().propose(uneven, step=0.5) == {"g": (0, 3)}
    assert PaperCorrected().propose(uneven, step=0.5) == {"g": (0, 3)}


def test_without_beta_energy_has_no_say() -> None:
    index = Paper(1.0, 0.0).importance(TWO)
    assert index["cheap"] == index["costly"]
    uneven = context({"a": (1.0, 2.0, 9.0), "b": (5.0, 6.0, 7.0)}, slopes=(9.0, 0.1, 0.1))
    assert PaperCorrected(1.0, 0.0).propose(uneven, 0.3) == Magnitude().propose(uneven, 0.3)


def test_without_alpha_only_energy_counts() -> None:
    # The costly group's channels have by far the larger norms; alpha = 0 takes them all the same.
    lopsided = context({"cheap": (0.1,) * 4, "costly": (9.0,) * 4}, slopes=(0.05, 0.6, 0.9))
    assert set(PaperCorrected(0.0, 1.0).propose(lopsided, 0.25)) == {"costly"}
    assert set(PaperCorrected(0.0, 1.0).propose(TWO, 0.1)) == {"cheap"}, "halving its channels halves the costly reader"


def test_a_layer_that_costs_nothing_has_a_ratio_of_one() -> None:
    free = context({"g": (1.0, 1.0)}, slopes=(0.0, 0.0))
    assert Paper(0.0, 1.0).importance(free) == {"g": 1.0}


def test_a_rollback_moves_half_of_beta_to_alpha() -> None:
    assert balance(0.6, 0.4, 0) == (0.6, 0.4)
    assert balance(0.6, 0.4, 1) == pytest.approx((0.8, 0.2))
    assert balance(0.6, 0.4, 2) == pytest.approx((0.9, 0.1))


@pytest.mark.parametrize("mode", [Allocation.PAPER, Allocation.PAPER_CORRECTED])
def test_a_resumed_run_decides_as_the_interrupted_one(mode: Allocation) -> None:
    interrupted = make_allocator(mode)
    before = interrupted.importance(TWO)  # type: ignore[attr-defined]
    interrupted.after_rollback(TWO)
    resumed = make_allocator(mode, rollbacks=1)
    assert interrupted.importance(TWO) == resumed.importance(TWO) != before  # type: ignore[attr-defined]
