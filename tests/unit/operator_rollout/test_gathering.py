"""Targets that arrive close together are told of together, and none waits long for another."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coppice_operator.conditions import timestamp
from coppice_operator.rollout.gathering import seconds_to_wait
from coppice_operator.rollout.kinds import Workload, by_key
from tests.unit.operator_rollout.simulator import START, Object, Simulation, deployment, rollout

NAMES = tuple(f"digits-{number:02}" for number in range(12))


def seen(body: Object) -> Workload:
    return next(iter(by_key([body]).values()))


def arrived(seconds_ago: float) -> Workload:
    workload = deployment("digits-a")
    moment = timestamp(START - timedelta(seconds=seconds_ago))
    workload["status"]["conditions"].append({"type": "Progressing", "status": "True", "lastUpdateTime": moment})
    return seen(workload)


@pytest.mark.parametrize(
    ("ages", "moving", "most", "want"),
    [
        pytest.param([0], 3, 10, 3, id="one of many has arrived"),
        pytest.param([2, 0], 3, 10, 1, id="the first counts"),
        pytest.param([7], 3, 10, 0, id="it has waited long enough"),
        pytest.param([0], 0, 10, 0, id="nobody else is on the way"),
        pytest.param([0] * 5, 3, 10, 0, id="half of what may move is here"),
        pytest.param([0], 1, 1, 0, id="one at a time"),
        pytest.param([-60], 3, 10, 0, id="a clock that is ahead"),
        pytest.param([], 3, 10, 0, id="nobody has arrived"),
    ],
)
def test_how_long_the_first_waits(ages: list[float], moving: int, most: int, want: float) -> None:
    workloads = [arrived(age) for age in ages]
    assert seconds_to_wait(workloads, moving=moving, most=most, now=START) == want


def test_a_workload_that_does_not_say_since_when_waits_for_nobody() -> None:
    assert seconds_to_wait([seen(deployment("digits-a"))], moving=3, most=10, now=START) == 0


def told(gathers: bool) -> int:
    """How many statuses a rollout writes to Deployments that become available one a second."""
    fleet = [deployment(name) for name in NAMES]
    run = Simulation(rollout(*NAMES, strategy={"waves": [{"targets": "100%"}], "maxUnavailable": 6}), fleet)
    slow = {name: 2 + index for index, name in enumerate(NAMES)}
    run.broken = lambda name, value: (run.now - START).total_seconds() < slow[name]
    run.stamps = gathers
    run.run()
    assert run.state == "RolledOut" and run.most_in_transition <= 6 and len(run.actions) == len(NAMES)
    return run.status_writes


def test_a_fleet_is_told_of_in_fewer_writes() -> None:
    assert told(gathers=True) < told(gathers=False)
