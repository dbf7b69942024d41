"""A person takes a rollout back: under way, held, ended, paused, and beside another rollout."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from coppice_operator.plan import ApplyObject
from tests.unit.operator_rollout.simulator import DENSE, PRUNED, Simulation, condition, rollout
from tests.unit.operator_rollout.test_backward import bad, set_value, target
from tests.unit.operator_rollout.test_forward import ANALYSIS, NAMES, good, simulation


def withdrawn(run: Simulation) -> Simulation:
    """Set spec.withdrawn as a person does."""
    run.rollout["spec"]["withdrawn"] = True
    run.rollout["metadata"]["generation"] += 1
    return run


def back(run: Simulation) -> None:
    """It has ended where it began."""
    assert run.state == "RolledBack"
    assert set(run.values().values()) == {DENSE}
    assert run.stable()


@pytest.mark.parametrize("passes", range(1, 40, 3))
def test_a_rollout_withdrawn_at_any_moment_goes_back(passes: int) -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=good)
    for _ in range(passes):
        run.step()
    withdrawn(run).run(until=lambda: run.state == "RolledBack")
    back(run)
    assert run.status["failureReason"] == "Withdrawn"
    assert condition(run.rollout, "Stalled")["status"] == "True"


def test_a_rollout_that_has_ended_goes_back_newest_first() -> None:
    run = simulation(spec={"strategy.maxUnavailable": 1}).run()
    assert run.state == "RolledOut" and set(run.values().values()) == {PRUNED}
    forward = len(run.actions)
    withdrawn(run).run(until=lambda: run.state == "RolledBack")
    back(run)
    names = [action.manifest["metadata"]["name"] for action in run.actions[forward:] if isinstance(action, ApplyObject)]
    assert names == ["digits-c", "digits-b", "digits-a"]
    assert run.most_in_transition == 1


def test_one_that_failed_and_was_held_goes_back_and_keeps_its_reason() -> None:
    run = simulation(spec={"analysis": ANALYSIS, "onFailure": "Hold"}, answer=bad).run()
    assert run.state == "Held"
    withdrawn(run).run(until=lambda: run.state == "RolledBack")
    back(run)
    assert run.status["failureReason"] == "AnalysisFailed"


def test_a_paused_rollout_goes_back_too() -> None:
    run = simulation(spec={"paused": True}).settle()
    run.rollout["spec"]["paused"] = False
    run.run(until=lambda: PRUNED in run.values().values())
    run.rollout["spec"]["paused"] = True
    run.settle()
    withdrawn(run).run(until=lambda: run.state == "RolledBack")
    back(run)


def test_before_anything_was_touched_it_simply_ends() -> None:
    run = withdrawn(simulation()).run()
    back(run)
    assert run.actions == []


def test_withdrawing_twice_or_taking_it_back_changes_nothing() -> None:
    run = withdrawn(simulation().run()).run(until=lambda: True)
    run.rollout["spec"]["withdrawn"] = False
    run.run(until=lambda: run.state == "RolledBack")
    writes = len(run.actions)
    withdrawn(run).settle()
    back(run)
    assert len(run.actions) == writes


def test_what_somebody_else_has_changed_since_is_left_alone() -> None:
    run = simulation().run()
    set_value(run, "digits-b", "pvc://theirs")
    withdrawn(run).run(until=lambda: run.state == "RolledBack")
    assert run.values() == {"digits-a": DENSE, "digits-b": "pvc://theirs", "digits-c": DENSE}
    assert target(run, "digits-b")["state"] == "Blocked"


def test_an_ended_one_waits_for_a_rollout_that_has_one_of_its_targets() -> None:
    run = simulation().run()
    newer: dict[str, Any] = rollout(NAMES[1], name="newer", created="2026-11-01T11:30:00Z")
    newer["status"] = {"state": "RollingOut", "wave": 1, "targets": [{"name": NAMES[1], "state": "Updating"}]}
    run.siblings = (newer,)
    writes = len(run.actions)
    withdrawn(run).settle()
    assert run.state == "RolledOut" and len(run.actions) == writes
    assert "ModelRollout newer has Deployment digits-b" in condition(run.rollout, "Ready")["message"]
    ended = copy.deepcopy(newer)
    ended["status"]["state"] = "RolledBack"
    run.siblings = (ended,)
    run.run(until=lambda: run.state == "RolledBack")
    back(run)
