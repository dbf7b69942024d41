"""The machine's clock jumps under the operator: planners take the time as an argument, so a test can have it jump."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coppice_operator.plan import CreateObject
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.plan import plan as plan_rollout
from tests.unit.operator_core.test_prunejob_plan import World
from tests.unit.operator_rollout.simulator import PRUNED, START, deployment, rollout

STEPS = [timedelta(days=-30), timedelta(seconds=-1), timedelta(hours=1), timedelta(days=365)]


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not key.endswith("Time")}
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_clock_step_starts_no_second_job_and_changes_no_word(step: timedelta) -> None:
    world = World()
    world.step()
    world.step()
    before = without_times(world.prunejob["status"])
    world.now += step
    decided = world.step()
    assert not any(isinstance(action, CreateObject) for action in decided.actions)
    assert without_times(world.prunejob["status"]) == before
    assert len(world.jobs) == 1


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_clock_step_after_the_end_changes_nothing_at_all(step: timedelta) -> None:
    world = World()
    world.step()
    world.step()
    world.job["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    world.step()
    before = world.prunejob["status"]
    world.now += step
    decided = world.step()
    assert decided.status == before
    assert decided.actions == ()


@pytest.mark.parametrize("step", [timedelta(days=-30), timedelta(seconds=-1)], ids=str)
def test_a_clock_that_goes_back_mid_wave_waits_and_touches_nothing_twice(step: timedelta) -> None:
    document, target = rollout("a"), deployment("a", None)
    first = plan_rollout(RolloutObservation(rollout=document, workloads=(target,)), START)
    document["status"] = first.status
    second = plan_rollout(RolloutObservation(rollout=document, workloads=(target,)), START + step)
    assert len(second.actions) == 1
    target["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "MODEL_URI", "value": PRUNED})
    target["metadata"]["generation"] = 2
    third = plan_rollout(RolloutObservation(rollout=document, workloads=(target,)), START + step)
    assert third.actions == ()
    assert third.status is not None
    assert third.status["state"] == "RollingOut"


def test_a_clock_that_jumps_past_a_deadline_mid_wave_takes_the_target_back() -> None:
    document, target = rollout("a"), deployment("a", None)
    document["status"] = plan_rollout(RolloutObservation(rollout=document, workloads=(target,)), START).status
    late = plan_rollout(RolloutObservation(rollout=document, workloads=(target,)), START + timedelta(days=1))
    assert late.actions == ()
    assert late.status is not None
    assert (late.status["state"], late.status["failureReason"]) == ("RollingBack", "ProgressDeadlineExceeded")
