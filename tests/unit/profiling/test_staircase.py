"""Widths between two steps of the hardware."""

from __future__ import annotations

import pytest

from coppice_pruner.profiling import Staircase
from coppice_pruner.profiling.staircase import shares_of


def test_without_steps_a_width_is_its_own_place() -> None:
    assert [Staircase().place(channels) for channels in (1, 7, 100)] == [1.0, 7.0, 100.0]


def test_a_staircase_charges_a_begun_step_in_full() -> None:
    stairs = Staircase(16, (0.0, 1.0, 1.0, 1.0))
    assert [stairs.place(channels) for channels in (32, 36, 44, 48)] == [32.0, 48.0, 48.0, 48.0]


def test_below_the_first_step_cost_goes_straight() -> None:
    assert Staircase(16, (0.0, 1.0, 1.0, 1.0)).place(4) == 4.0


def test_a_width_between_two_measured_ones_lies_between_them() -> None:
    assert Staircase(16, (0.0, 0.4, 0.8, 0.9)).place(38) == pytest.approx(32 + 16 * 0.6)


def test_shares_say_how_far_a_cost_has_come_within_a_step() -> None:
    assert shares_of(10.0, (20.0, 15.0, 25.0), 20.0) == pytest.approx((0.0, 1.0, 0.5, 1.5))


def test_a_step_that_costs_nothing_is_taken_as_even() -> None:
    assert shares_of(10.0, (10.4, 9.9, 10.1), 10.1) == pytest.approx((0.0, 0.25, 0.5, 0.75))
