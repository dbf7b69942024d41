"""When a pruned model is fine-tuned again, kept, taken back or left outside the budget for the next step."""

from __future__ import annotations

import math

import pytest

from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.run.history import History
from coppice_pruner.run.recovery import Recovery, recover, settled_step
from coppice_pruner.run.step_rule import LEAST_STEP, Outlook, Pace, Patient, Prompt, Rule, Verdict
from coppice_pruner.training import DivergedError, Quality

_DENSE = Quality(0.90, 0.4)
_BUDGET = QualityBudget(1.0)
_PROMPT, _PATIENT = Prompt(), Patient()


def _recovered(
    *accuracies: float, rule: Rule = _PROMPT, left: int = 9, last: bool = False, first: bool = False
) -> Recovery:
    """Return what comes of fine-tunings after which a model has these accuracies; NaN diverges."""

    def tune(again: int) -> Quality:
        if accuracies[again] != accuracies[again]:
            raise DivergedError("the loss is not a number")
        return Quality(accuracies[again], 0.5)

    history = History(left) if first else History(left).tried((), kept=True)
    return recover(tune, _DENSE, _BUDGET, rule, history, last=last)


def _kept(accuracy_ratio: float, *spent: float) -> Recovery:
    return Recovery(Quality(accuracy_ratio, 0.5), True, "", pytest.approx(spent))


class TestPrompt:
    def test_a_model_that_lost_little_is_fine_tuned_once(self) -> None:
        assert _recovered(0.90) == _kept(0.90, 0.0)
        assert _recovered(0.898) == _kept(0.898, 0.2)

    def test_a_model_within_the_budget_is_fine_tuned_twice_if_another_step_follows(self) -> None:
        assert _recovered(0.89, 0.892) == _kept(0.892, 1.0, 0.8)
        assert _recovered(0.89, last=True) == _kept(0.89, 1.0)
        assert _recovered(0.89, left=1) == _kept(0.89, 1.0)
        assert _recovered(0.89, 0.88, 0.89).fine_tunings == 3

    def test_a_model_that_comes_nearer_is_fine_tuned_until_it_is_within_the_budget(self) -> None:
        assert _recovered(0.875, 0.885, 0.892) == _kept(0.892, 2.5, 1.5, 0.8)

    def test_a_model_that_lost_far_more_is_given_up_at_once(self) -> None:
        lost = 0.01 * _PROMPT.nearly + 0.001
        recovery = _recovered(0.90 - lost)
        assert recovery.fine_tunings == 1
        assert not recovery.kept
        assert recovery.excess == "accuracy fell by 3.10 points to 86.90%; 1 are allowed"

    def test_a_model_that_is_not_within_the_budget_after_a_few_fine_tunings_is_given_up(self) -> None:
        recovery = _recovered(0.880, 0.882, 0.884)
        assert recovery.fine_tunings == _PROMPT.most
        assert not recovery.kept
        assert "1.60 points" in recovery.excess

    def test_what_is_kept_is_never_fine_tuned_before_the_next_step(self) -> None:
        assert not _PROMPT.settles(5.0, 1, Outlook(1))

    @pytest.mark.parametrize(
        ("spent", "step"), [((0.0,), 0.18), ((2.0, 1.5, -1.0), 0.18), ((0.5,), 0.12), ((1.5, 0.5), 0.12),
                            ((2.0, 1.5, 0.5), 0.08)],
    )  # fmt: skip
    def test_steps_grow_while_nothing_is_lost_and_shrink_when_they_take_long(
        self, spent: tuple[float, ...], step: float
    ) -> None:
        assert _PROMPT.next_step(0.12, spent, Outlook(5), kept=True) == pytest.approx(step)

    def test_the_step_after_one_that_was_taken_back_is_half_of_it(self) -> None:
        assert _PROMPT.next_step(0.12, (1.1,), Outlook(5), kept=False) == 0.06

    def test_steps_that_are_kept_stay_between_the_largest_and_the_least(self) -> None:
        assert _PROMPT.next_step(0.4, (0.0,), Outlook(5), kept=True) == _PROMPT.largest_step
        assert _PROMPT.next_step(LEAST_STEP, (1.5, 1.2, 1.0), Outlook(5), kept=True) == LEAST_STEP


class TestPatient:
    def test_another_step_does_not_wait_for_what_later_fine_tunings_bring(self) -> None:
        recovery = _recovered(0.88, rule=_PATIENT)
        assert (recovery.kept, recovery.fine_tunings) == (True, 1)
        assert recovery.excess == "accuracy fell by 2.00 points to 88.00%; 1 are allowed"

    @pytest.mark.parametrize("done", [1, 2])
    def test_the_fewer_are_left_the_less_a_model_may_have_lost(self, done: int) -> None:
        spent = [
            max(spent for spent in range(400) if _PATIENT.verdict(spent / 100, done, Outlook(left)) is Verdict.KEEP)
            for left in range(2, 10)
        ]
        assert spent == sorted(spent)
        assert spent[0] <= 100 < spent[-1] < 250

    def test_what_is_lost_after_several_fine_tunings_weighs_more_than_after_one(self) -> None:
        assert [_PATIENT.verdict(2.0, done, Outlook(9)) for done in (1, 2)] == [Verdict.KEEP, Verdict.AGAIN]

    def test_the_first_step_is_kept_within_the_budget_alone_so_that_there_is_something_to_go_back_to(self) -> None:
        assert _recovered(0.895, rule=_PATIENT, first=True) == _kept(0.895, 0.5)
        assert _recovered(0.885, 0.893, rule=_PATIENT, first=True) == _kept(0.893, 1.5, 0.7)
        for accuracies in ((0.86,), (0.888, 0.882)):
            recovery = _recovered(*accuracies, rule=_PATIENT, first=True)
            assert (recovery.kept, recovery.fine_tunings) == (False, len(accuracies))

    def test_a_model_that_cannot_be_expected_to_come_back_is_given_up(self) -> None:
        recovery = _recovered(0.82, rule=_PATIENT)
        assert (recovery.kept, recovery.fine_tunings) == (False, 1)
        assert "8.00 points" in recovery.excess

    def test_a_model_that_does_not_come_nearer_is_given_up_though_many_fine_tunings_are_left(self) -> None:
        recovery = _recovered(*[0.88] * 9, rule=_PATIENT, left=5)
        assert (recovery.kept, recovery.fine_tunings) == (False, 2)
        assert _recovered(*[0.885] * 20, rule=_PATIENT, left=20, last=True).fine_tunings == _PATIENT.most + 1

    def test_the_last_step_is_fine_tuned_until_it_is_within_the_budget(self) -> None:
        assert _recovered(0.88, 0.889, 0.89, rule=_PATIENT, last=True) == _kept(0.89, 2.0, 1.1, 1.0)

    def test_nothing_is_kept_outside_the_budget_that_has_no_fine_tuning_left(self) -> None:
        recovery = _recovered(0.888, 0.889, rule=_PATIENT, left=2, last=True)
        assert (recovery.kept, recovery.fine_tunings) == (False, 2)
        assert _recovered(0.891, rule=_PATIENT, left=1) == _kept(0.891, 0.9)

    @pytest.mark.parametrize("left", range(12))
    def test_a_model_that_was_just_kept_needs_no_more_fine_tuning_before_a_step_is_tried(self, left: int) -> None:
        for spent in (0.5, 1.1, 1.3, 2.0, 3.9):
            for done in (1, 2, 3):
                if _PATIENT.verdict(spent, done, Outlook(left)) is Verdict.KEEP:
                    assert not _PATIENT.settles(spent, done, Outlook(left))

    def test_a_model_outside_the_budget_is_fine_tuned_while_it_still_can_be(self) -> None:
        assert not _PATIENT.settles(1.2, 2, Outlook(8))
        assert _PATIENT.settles(1.2, 2, Outlook(4))
        assert _PATIENT.settles(1.01, 1, Outlook(1))
        assert not _PATIENT.settles(1.0, 1, Outlook(1))
        assert _PATIENT.settles(math.inf, 1, Outlook(9))

    @pytest.mark.parametrize(
        ("spent", "left", "factor"),
        [
            ((-1.0,), 0, _PATIENT.larger),
            ((0.0,), 5, _PATIENT.larger),
            ((0.7,), 1, 1.0),
            ((0.8,), 3, math.sqrt(0.7 / 0.8)),
            # What one fine-tuning left counts, not what came of it after more.
            ((2.0, 0.1), 4, math.sqrt(0.7 / 0.45 / 2)),
            ((3.0,), 20, math.sqrt(0.7 / 0.45 / 0.8**2 / 3)),
            ((9.0,), 4, 0.5),
        ],
    )
    def test_the_step_after_one_that_was_kept_follows_from_what_it_lost_and_from_what_is_left(
        self, spent: tuple[float, ...], left: int, factor: float
    ) -> None:
        assert _PATIENT.next_step(0.12, spent, Outlook(left), kept=True) == pytest.approx(0.12 * factor)

    @pytest.mark.parametrize(
        ("spent", "left", "factor"),
        [((1.1,), 0, math.sqrt(0.7 / 1.1)), ((2.0,), 4, math.sqrt(0.7 / 0.45 / 2)), ((0.9,), 9, _PATIENT.retry),
         ((9.0,), 1, 0.5), ((math.inf,), 3, 0.5), ((math.nan,), 3, 0.5), ((), 3, 0.5)],
    )  # fmt: skip
    def test_the_step_after_one_that_was_taken_back_is_smaller_by_what_it_lost_too_much(
        self, spent: tuple[float, ...], left: int, factor: float
    ) -> None:
        step = _PATIENT.next_step(0.12, spent, Outlook(left), kept=False)
        assert step == pytest.approx(0.12 * factor, rel=1e-3)

    def test_steps_that_are_kept_stay_between_the_largest_and_the_least(self) -> None:
        assert _PATIENT.next_step(0.3, (0.0,), Outlook(5), kept=True) == _PATIENT.largest_step
        assert _PATIENT.next_step(LEAST_STEP, (3.0,), Outlook(1), kept=True) == LEAST_STEP


@pytest.mark.parametrize("rule", [_PROMPT, _PATIENT])
@pytest.mark.parametrize("left", [1, 2])
def test_no_more_fine_tunings_are_spent_than_the_run_has_left(left: int, rule: Rule) -> None:
    recovery = _recovered(0.889, 0.889, 0.889, left=left, rule=rule, last=True)
    assert recovery.fine_tunings == left
    assert recovery.excess


@pytest.mark.parametrize("rule", [_PROMPT, _PATIENT])
def test_a_fine_tuning_that_diverged_ends_the_step_with_the_last_quality_that_is_known(rule: Rule) -> None:
    for accuracies, quality, spent in (((0.88, math.nan), 0.88, 2.0), ((math.nan,), None, None)):
        want = Recovery(
            None if quality is None else Quality(quality, 0.5), False, "the loss is not a number",
            (math.inf,) if spent is None else (pytest.approx(spent), math.inf), diverged=True,
        )  # fmt: skip
        assert _recovered(*accuracies, rule=rule, left=6) == want


def test_perplexity_counts_by_the_loss() -> None:
    qualities = [Quality(0.2, 2.04), Quality(0.1, 2.005)]
    recovery = recover(qualities.__getitem__, Quality(0.3, 2.0), QualityBudget(0.0, 2.0), _PROMPT, History(2))
    spent = pytest.approx([(math.exp(0.04) - 1) / 0.02, (math.exp(0.005) - 1) / 0.02])
    assert recovery == Recovery(qualities[1], True, "", spent)


def test_a_budget_of_nothing_is_spent_by_any_loss() -> None:
    for spent, accuracy_ratio in ((-0.5, 0.905), (0.0, 0.9), (math.inf, 0.899), (math.inf, math.nan)):
        assert QualityBudget(0.0).spent(_DENSE, Quality(accuracy_ratio, 0.4)) == pytest.approx(spent)


def test_a_network_that_is_fine_tuned_further_is_judged_by_all_its_fine_tunings() -> None:
    def further(*before: float) -> Recovery:
        history = History(9 + len(before)).tried(before, kept=True)
        return recover(lambda _again: Quality(0.88, 0.5), _DENSE, _BUDGET, _PATIENT, history, further=True)

    assert further().kept
    assert not further(2.1).kept
    assert further(2.1).spent[0] == pytest.approx(2.0)


def test_a_pace_is_of_the_second_fine_tuning_and_of_later_ones() -> None:
    assert [Pace(0.5, 0.8).leaves(count, 1) for count in (-1, 0, 1, 2)] == [1.0, 1.0, 0.5, 0.4]
    assert [Pace(0.5, 0.8).leaves(count, 2) for count in (0, 1, 2)] == pytest.approx([1.0, 0.8, 0.64])


def test_the_step_after_more_fine_tuning_shrinks_with_what_was_spent_on_it() -> None:
    assert settled_step(0.2, Recovery(_DENSE, True, "", (1.5, 0.9)), Pace()) == pytest.approx(0.2 * 0.8)
    assert settled_step(LEAST_STEP, Recovery(_DENSE, True, "", (0.9,)), Pace()) == LEAST_STEP
