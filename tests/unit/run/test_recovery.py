"""How often a pruned model is fine-tuned before its step is kept or taken back."""

from __future__ import annotations

import pytest

from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.run.journal import Iteration
from coppice_pruner.run.recovery import LEAST_STEP, MOST, NEARLY, Recovery, adapted, fine_tunings_left, recover
from coppice_pruner.training import DivergedError, Quality

_DENSE = Quality(0.90, 0.4)
_BUDGET = QualityBudget(1.0)


def _recovered(*accuracies: float, left: int = 9, last: bool = False) -> Recovery:
    """Return what comes of fine-tunings after which a model has these accuracies; NaN diverges."""

    def tune(again: int) -> Quality:
        if accuracies[again] != accuracies[again]:
            raise DivergedError("the loss is not a number")
        return Quality(accuracies[again], 0.5)

    return recover(tune, _DENSE, _BUDGET, left=left, last=last)


def test_a_model_that_lost_nothing_says_so() -> None:
    assert _recovered(0.90) == Recovery(Quality(0.90, 0.5), "", False, 1)


def test_a_model_that_lost_little_is_fine_tuned_once() -> None:
    assert _recovered(0.898) == Recovery(Quality(0.898, 0.5), "", True, 1)


def test_a_model_within_the_budget_is_fine_tuned_twice_if_another_step_follows() -> None:
    assert _recovered(0.89, 0.892) == Recovery(Quality(0.892, 0.5), "", True, 2)
    assert _recovered(0.89, last=True) == Recovery(Quality(0.89, 0.5), "", True, 1)
    assert _recovered(0.89, left=1) == Recovery(Quality(0.89, 0.5), "", True, 1)
    assert _recovered(0.89, 0.88, 0.89).fine_tunings == 3


def test_a_model_that_comes_nearer_is_fine_tuned_until_it_is_within_the_budget() -> None:
    assert _recovered(0.875, 0.885, 0.892) == Recovery(Quality(0.892, 0.5), "", True, 3)


def test_a_model_that_lost_far_more_is_given_up_at_once() -> None:
    lost = 0.01 * NEARLY + 0.001
    recovery = _recovered(0.90 - lost)
    assert recovery.fine_tunings == 1
    assert recovery.excess == "accuracy fell by 3.10 points to 86.90%; 1 are allowed"


def test_a_model_that_is_not_within_the_budget_after_a_few_fine_tunings_is_given_up() -> None:
    recovery = _recovered(0.880, 0.882, 0.884)
    assert recovery.fine_tunings == MOST
    assert "1.60 points" in recovery.excess


@pytest.mark.parametrize("left", [1, 2])
def test_no_more_fine_tunings_are_spent_than_the_run_has_left(left: int) -> None:
    recovery = _recovered(0.880, 0.882, 0.884, left=left)
    assert recovery.fine_tunings == left
    assert recovery.excess


def test_a_fine_tuning_that_diverged_ends_the_step_with_the_last_quality_that_is_known() -> None:
    recovery = _recovered(0.88, float("nan"))
    assert recovery == Recovery(Quality(0.88, 0.5), "the loss is not a number", True, 2, diverged=True)
    assert _recovered(float("nan")) == Recovery(None, "the loss is not a number", True, 1, diverged=True)


def test_perplexity_counts_by_the_loss() -> None:
    qualities = [Quality(0.2, 2.04), Quality(0.1, 2.005)]
    recovery = recover(qualities.__getitem__, Quality(0.3, 2.0), QualityBudget(0.0, 2.0), left=2)
    assert recovery == Recovery(qualities[1], "", True, 2)


@pytest.mark.parametrize(
    ("lost", "fine_tunings", "step"),
    [(False, 1, 0.18), (False, MOST, 0.18), (True, 1, 0.12), (True, 2, 0.12), (True, MOST, 0.08)],
)
def test_steps_grow_while_nothing_is_lost_and_shrink_when_they_take_long(
    lost: bool, fine_tunings: int, step: float
) -> None:
    recovery = Recovery(Quality(0.9, 0.4), "", lost, fine_tunings)
    assert adapted(0.12, recovery, largest=0.5) == pytest.approx(step)


def test_steps_that_are_kept_stay_between_the_largest_and_the_least() -> None:
    assert adapted(0.2, Recovery(_DENSE, "", False, 1), largest=0.25) == 0.25
    assert adapted(LEAST_STEP, Recovery(_DENSE, "", True, MOST), largest=0.25) == LEAST_STEP


def test_a_run_has_twice_as_many_fine_tunings_as_steps() -> None:
    steps = [Iteration(number, True, 0.25, {}, 0.9, 0.2, 0.2, fine_tunings=done) for number, done in enumerate((1, 3))]
    refused = Iteration(3, False, 0.25, {}, None, None, 0.3, "surgery", 0)
    assert fine_tunings_left([], 6) == 12
    assert fine_tunings_left([*steps, refused], 6) == 8
