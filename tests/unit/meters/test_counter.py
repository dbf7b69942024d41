"""Registers that wrap, fall and are read by two threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from coppice_pruner.meters import CounterFellError
from coppice_pruner.meters.counter import RisingCounter, update_period_seconds


def counter(values: list[int], **options: int) -> RisingCounter:
    units: Iterator[int] = iter(values)
    return RisingCounter(lambda: next(units), joules_per_unit=0.5, device="a device", **options)


def test_a_register_that_wraps_around_goes_on_growing() -> None:
    found = counter([90, 95, 3, 50, 10], wraps_at=100)
    assert [found.read_joules() for _ in range(4)] == [47.5, 51.5, 75.0, 105.0]


def test_a_register_that_falls_is_said_once_and_counted_on_from_there() -> None:
    found = counter([100, 110, 4, 6, 9])
    assert found.read_joules() == 55.0
    with pytest.raises(CounterFellError, match=r"of a device fell from 55 to 2 J: its driver was loaded again"):
        found.read_joules()
    # 110 units before, 6 since: what was used around the restart is lost, and nothing is counted twice.
    assert [found.read_joules(), found.read_joules()] == [58.0, 59.5]


def test_a_scrape_that_meets_the_fall_first_does_not_hide_it_from_the_run() -> None:
    found = counter([100, 100, 4, 8, 12, 13])
    met: list[object] = []

    def scrape() -> None:
        found.read_joules()
        other_waits.set()
        fallen.wait(5)
        try:
            found.read_joules()
        except CounterFellError as error:
            met.append(error)

    other_waits, fallen = threading.Event(), threading.Event()
    thread = threading.Thread(target=scrape)
    thread.start()
    assert other_waits.wait(5)
    with pytest.raises(CounterFellError):
        found.read_joules()
    fallen.set()
    thread.join(5)
    assert len(met) == 1
    # A thread that comes later has nothing that the fall could spoil.
    late: list[float] = []
    newcomer = threading.Thread(target=lambda: late.append(found.read_joules()))
    newcomer.start()
    newcomer.join(5)
    assert late == [(100 + 12) * 0.5]


def test_the_period_is_the_median_time_between_steps() -> None:
    now = 0.0

    def clock() -> float:
        return now

    def read() -> float:
        nonlocal now
        now += 0.001
        return now // 0.05

    assert update_period_seconds(read, clock) == pytest.approx(0.05, rel=0.05)


def test_a_counter_that_stands_still_is_taken_for_the_slowest_known() -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.01
        return now

    assert update_period_seconds(lambda: 7.0, clock) == 0.1
