"""Numbers with units, as a person reads them."""

from __future__ import annotations

import math

import pytest

from coppice_pruner.report_page import numbers


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (0.00421, "4.21 mJ"),
        (0.0, "0 J"),
        (1.0, "1.00 J"),
        (0.9996, "1,000 mJ"),
        (999.96, "1,000 J"),
        (1000.0, "1.00 kJ"),
        (0.001, "1.00 mJ"),
        (12_345.0, "12.3 kJ"),
        (1.92e6, "1.92 MJ"),
        (3.1e-7, "310 nJ"),
        (2e-15, "0.00000200 nJ"),
        (-0.5, "-500 mJ"),
        (math.nan, "not known"),
        (math.inf, "not known"),
    ],
)
def test_joules_have_three_digits_and_a_prefix(value: float, want: str) -> None:
    assert plain(numbers.joules(value)) == want


def test_figures_side_by_side_share_a_prefix() -> None:
    assert plain(numbers.joules(0.00095, beside=0.0012)) == "0.950 mJ"
    assert plain(numbers.joules(0.00095, beside=0.0)) == "0.000950 J"


@pytest.mark.parametrize(
    ("seconds", "want"),
    [(0.0123, "12.3 ms"), (59.0, "59.0 s"), (60.0, "1 min"), (200.4, "3 min 20 s"), (5412.0, "1 h 30 min")],
)
def test_long_times_are_said_in_minutes_and_hours(seconds: float, want: str) -> None:
    assert plain(numbers.duration(seconds)) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (numbers.size(59_100_000), "59.1 MB"),
        (numbers.watts(412.0), "412 W"),
        (numbers.grams(0.0012), "1.20 mg"),
        (numbers.count(14_774_436), "14,774,436"),
        (numbers.percent(0.5242), "52.4 %"),
        (numbers.percent(math.nan), "not known"),
        (numbers.change(-0.524), "-52.4 %"),
        (numbers.change(0.127), "+12.7 %"),
        (numbers.change(-0.0001), "0.0 %"),
        (numbers.points(-0.0035), "-0.35 points"),
        (numbers.plural(1, "epoch"), "1 epoch"),
        (numbers.plural(3, "epoch"), "3 epochs"),
    ],
)
def test_every_figure_has_its_unit(text: str, want: str) -> None:
    assert plain(text) == want


def test_ticks_are_round_and_within() -> None:
    assert numbers.ticks(0.903, 0.926, 6) == pytest.approx((0.905, 0.91, 0.915, 0.92, 0.925))
    assert numbers.ticks(0.0, 0.6, 6) == pytest.approx((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    assert numbers.ticks(3.0, 3.0) == (3.0,)
