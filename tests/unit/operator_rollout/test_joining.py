"""What begins to match while a rollout is under way gets the model with the last wave."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator_rollout.simulator import DENSE, PRUNED, START, Object, Simulation, deployment, rollout
from tests.unit.operator_rollout.test_backward import bad
from tests.unit.operator_rollout.test_forward import ANALYSIS, NAMES, WAVES

LABELS = {"fleet": "digits"}


def fleet(*names: str) -> list[Object]:
    return [deployment(name, labels=LABELS) for name in names]


def simulation(**spec: Any) -> Simulation:
    document = rollout(targets=[{"selector": {"matchLabels": LABELS}}], strategy__waves=WAVES, **spec)
    return Simulation(document, fleet(*NAMES), answer=spec.pop("answer", bad))


def arrive(run: Simulation, *names: str) -> None:
    for workload in fleet(*names):
        run.fleet[workload["metadata"]["name"]] = workload
        run._changed[workload["metadata"]["name"]] = START


@pytest.mark.parametrize("passes", range(1, 30, 4))
def test_one_that_comes_at_any_moment_gets_the_model(passes: int) -> None:
    run = simulation()
    for _ in range(passes):
        run.step()
    # Its name comes first: it joins the last wave all the same.
    arrive(run, "aaa")
    run.run()
    assert run.state == "RolledOut" and set(run.values().values()) == {PRUNED}
    wave = next(target["wave"] for target in run.status["targets"] if target["name"] == "aaa")
    assert wave == 2
    assert run.status["totalTargets"] == 4


def test_it_is_said_once_and_by_name() -> None:
    run = simulation()
    run.run(until=lambda: run.status.get("wave") == 1)
    arrive(run, "eee", "fff")
    run.run()
    said = [event.message for event in run.events if "join" in event.message]
    assert said == ["new targets join wave 2: eee, fff"]


def test_a_rollout_that_has_ended_takes_nobody_along() -> None:
    run = simulation().run()
    arrive(run, "eee")
    run.settle()
    assert run.values()["eee"] == DENSE and run.status["totalTargets"] == 3


def test_on_the_way_back_nobody_joins() -> None:
    run = simulation(analysis=ANALYSIS)
    run.run(until=lambda: run.state == "RollingBack")
    arrive(run, "eee")
    run.run()
    assert run.state == "RolledBack" and set(run.values().values()) == {DENSE}
    assert run.status["totalTargets"] == 3


def test_one_that_cannot_take_the_model_does_not_join_and_stops_nobody() -> None:
    run = simulation()
    run.run(until=lambda: run.status.get("wave") == 1)
    arrive(run, "eee")
    run.fleet["eee"]["spec"]["template"]["spec"]["containers"].append({"name": "sidecar"})
    run.run()
    assert run.state == "RolledOut" and run.status["totalTargets"] == 3
