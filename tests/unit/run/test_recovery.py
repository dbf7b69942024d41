"""How often a pruned model is fine-tuned before its step is kept or taken back."""

from __future__ import annotations

import pytest

from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.run.journal import Iteration
from coppice_pruner.run.recovery import NEARLY, PATIENCE, Recovery, recover, spare_fine_tunings
from coppice_pruner.training import DivergedError, Quality

_DENSE = Quality(0.90, 0.4)
_BUDGET = QualityBudget(1.0)


def _recovered(*accuracies: float, spare: int = 9) -> Recovery:
    """Return what comes of fine-tunings after which a model has these accuracies; NaN diverges."""

    def tune(again: int) -> Quality:
        if accuracies[again] != accuracies[again]:
            raise DivergedError("the loss is not a number")
        return Quality(accuracies[again], 0.5)

    return recover(tune, _DENSE, _BUDGET, spare=spare)


def test_a_model_within_the_budget_is_fine_tuned_once() -> None:
    assert _recovered(0.89) == Recovery(Quality(0.89, 0.5), "", 1)


def test_a_model_that_comes_nearer_is_fine_tuned_until_it_is_within_the_budget() -> None:
    assert _recovered(0.875, 0.885, 0.892) == Recovery(Quality(0.892, 0.5), "", 3)


def test_a_model_that_lost_far_more_is_given_up_at_once() -> None:
    lost = 0.01 * NEARLY + 0.001
    recovery = _recovered(0.90 - lost)
    assert recovery.fine_tunings == 1
    assert recovery.excess == "accuracy fell by 3.10 points to 86.90%; 1 are allowed"


def test_a_model_that_two_more_fine_tunings_made_no_better_is_given_up() -> None:
    recovery = _recovered(0.885, 0.885, 0.884)
    assert recovery.fine_tunings == 1 + PATIENCE
    assert "1.60 points" in recovery.excess
    assert _recovered(0.885, 0.884, 0.890).fine_tunings == 3


@pytest.mark.parametrize(("spare", "done"), [(0, 1), (1, 2)])
def test_no_more_fine_tunings_are_spent_than_the_run_has_left(spare: int, done: int) -> None:
    recovery = _recovered(0.880, 0.882, 0.884, spare=spare)
    assert recovery.fine_tunings == done
    assert recovery.excess


def test_a_fine_tuning_that_diverged_ends_the_step_with_the_last_quality_that_is_known() -> None:
    recovery = _recovered(0.88, float("nan"))
    assert recovery == Recovery(Quality(0.88, 0.5), "the loss is not a number", 2)
    assert _recovered(float("nan")) == Recovery(None, "the loss is not a number", 1)


def test_perplexity_counts_by_the_loss() -> None:
    qualities = [Quality(0.2, 2.04), Quality(0.1, 2.005)]
    recovery = recover(qualities.__getitem__, Quality(0.3, 2.0), QualityBudget(0.0, 2.0), spare=1)
    assert recovery == Recovery(qualities[1], "", 2)


def test_a_run_has_as_many_fine_tunings_to_spare_as_steps_whatever_the_first_of_each_did() -> None:
    steps = [Iteration(number, True, 0.25, {}, 0.9, 0.2, 0.2, fine_tunings=done) for number, done in enumerate((1, 3))]
    refused = Iteration(3, False, 0.25, {}, None, None, 0.3, "surgery", 0)
    assert spare_fine_tunings([], 6) == 6
    assert spare_fine_tunings([*steps, refused], 6) == 4
