"""What a run's fine-tunings tell about those that follow, and how many those are."""

from __future__ import annotations

import math

import pytest

from coppice_pruner.run.history import History
from coppice_pruner.run.journal import Iteration
from coppice_pruner.run.step_rule import Outlook, Pace


def _pace(*networks: tuple[float, ...]) -> Pace:
    return History(12, networks).pace()


def _iteration(step: float, *spent: float, accepted: bool = True) -> Iteration:
    return Iteration(1, accepted, step, {}, 0.9, 0.3, 0.3, spent=spent)


def test_what_a_fine_tuning_leaves_is_learned_from_networks_that_had_several() -> None:
    assert _pace() == _pace((5.0,), (0.9, 0.1), (math.inf, 3.0), (3.0, math.inf)) == Pace()
    usual = _pace((4.0, 1.8, 1.44))
    assert (usual.second, usual.later) == pytest.approx((0.45, 0.8))
    slow = _pace((4.0, 3.9, 3.9))
    assert Pace.second < slow.second < 0.9
    assert Pace.later < slow.later < 0.95
    # One that was lucky counts for no more than one twice as good as usual; one better than the dense model likewise.
    assert _pace((8.0, 0.1)) == _pace((8.0, -1.0)) == _pace((8.0, 1.8))
    assert _pace(*[(2.0, 9.0, 9.0)] * 50) == Pace(pytest.approx(0.9, rel=0.05), 0.95)


def test_a_run_has_twice_as_many_fine_tunings_as_steps() -> None:
    history = History.of([_iteration(0.2, 0.1), _iteration(0.2, 2.0, 1.0, 0.5)], 3)
    assert (history.done, history.left) == (4, 2)
    assert History.of([], 3) == History(6)
    assert History(2, ((1.0, 1.0, 1.0),)).left == 0


def test_further_fine_tunings_are_those_of_the_network_that_was_kept_last() -> None:
    iterations = [
        _iteration(0.2, 0.5), _iteration(0.2, 2.0), _iteration(0.2, 9.0, accepted=False), _iteration(0, 1.2, 0.9),
    ]  # fmt: skip
    history = History.of(iterations, 6)
    assert history.networks == ((0.5,), (2.0, 1.2, 0.9), (9.0,))
    assert history.spent == (2.0, 1.2, 0.9)


def test_a_step_is_the_first_until_one_was_kept() -> None:
    dense = History(4)
    assert dense.spent == ()
    assert dense.outlook() == Outlook(4, first=True)
    assert dense.tried((0.5,), kept=True).outlook(last=True) == Outlook(3, last=True)
    assert dense.tried((9.0,)).outlook().first
