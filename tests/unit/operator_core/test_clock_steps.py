"""The machine's clock jumps under the operator: planners take the time as an argument, so a test can have it jump."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from coppice_operator.clock import STEP, Clock
from coppice_operator.conditions import timestamp
from coppice_operator.plan import Action, CreateObject, PatchObject, Plan
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.plan import plan as plan_rollout
from tests.unit.operator_core.test_prunejob_plan import World
from tests.unit.operator_rollout.simulator import PRUNED, START, deployment, rollout

STEPS = [timedelta(days=-30), timedelta(seconds=-1), timedelta(hours=1), timedelta(days=365)]


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if not key.endswith("Time")}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def on_targets(plan: Plan) -> list[Action]:
    """What is written to targets: all but the rollout's own record."""
    return [action for action in plan.actions if not isinstance(action, PatchObject)]


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
    assert len(on_targets(second)) == 1
    target["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "MODEL_URI", "value": PRUNED})
    target["metadata"]["generation"] = 2
    third = plan_rollout(RolloutObservation(rollout=document, workloads=(target,)), START + step)
    assert on_targets(third) == []
    assert third.status is not None
    assert third.status["state"] == "RollingOut"


@pytest.mark.parametrize("step", [step for step in STEPS if abs(step) > STEP], ids=str)
def test_deadlines_of_a_wave_begin_anew_when_the_clock_is_set(step: timedelta) -> None:
    document, target = rollout("a"), deployment("a", None)
    document["status"] = plan_rollout(RolloutObservation(rollout=document, workloads=(target,)), START).status
    now, set_at = START + step + timedelta(seconds=40), START + step
    for _ in range(2):
        observation = RolloutObservation(rollout=document, workloads=(target,), clock_set_at=set_at)
        decided = plan_rollout(observation, now)
        assert decided.status is not None
        assert decided.status["state"] == "RollingOut"
        document["status"] = decided.status
    # The second pass has nothing to mend.
    assert decided.status["targets"][0]["updatedTime"] in (timestamp(set_at), timestamp(now))
    late = plan_rollout(observation, now + timedelta(seconds=601))
    assert late.status is not None
    assert late.status["failureReason"] == "ProgressDeadlineExceeded"


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_rollout_that_has_ended_keeps_its_moments_when_the_clock_is_set(step: timedelta) -> None:
    document, target = rollout("a"), deployment("a", PRUNED)
    document["status"] = plan_rollout(RolloutObservation(rollout=document, workloads=(target,)), START).status
    for seconds in range(4):
        made = plan_rollout(
            RolloutObservation(rollout=document, workloads=(target,)), START + timedelta(seconds=120 * seconds)
        )
        document["status"] = made.status
    assert document["status"]["state"] == "RolledOut"
    after = RolloutObservation(rollout=document, workloads=(target,), clock_set_at=START + step)
    assert plan_rollout(after, START + step + timedelta(seconds=40)).status == document["status"]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_report_that_is_on_its_way_is_waited_for_when_the_clock_is_set(step: timedelta) -> None:
    world = World()
    world.step()
    world.end_job()
    world.step()
    assert world.variant["state"] == "Pending"
    world.clock_set_at = world.now = world.now + step
    world.now += timedelta(seconds=5)
    world.step()
    assert world.variant["state"] == "Pending"
    world.now += timedelta(seconds=60)
    world.step()
    assert world.variant["reason"] == "ReportUnreadable"


def test_the_wall_clock_against_the_monotonic_one() -> None:
    wall, steady = [START], [100.0]
    clock = Clock(lambda: wall[0], lambda: steady[0])

    def later(seconds: float, by_the_wall: float) -> datetime:
        steady[0] += seconds
        wall[0] += timedelta(seconds=by_the_wall)
        return clock.now()

    for _ in range(100):
        # As a clock that is adjusted goes, and after a machine that slept.
        assert later(60, 60.03) == wall[0]
    later(100_000, 100_001)
    assert clock.set_at is None
    assert later(1, 86_400) == wall[0]
    assert clock.set_at == wall[0]
    later(600, 600)
    assert clock.set_at == wall[0] - timedelta(seconds=600)
    later(1, -86_400.5)
    assert clock.set_at == wall[0].replace(microsecond=0)


def test_a_clock_that_jumped_before_this_operator_began_counts_as_time_that_passed() -> None:
    document, target = rollout("a"), deployment("a", None)
    document["status"] = plan_rollout(RolloutObservation(rollout=document, workloads=(target,)), START).status
    late = plan_rollout(RolloutObservation(rollout=document, workloads=(target,)), START + timedelta(days=1))
    assert on_targets(late) == []
    assert late.status is not None
    assert (late.status["state"], late.status["failureReason"]) == ("RollingBack", "ProgressDeadlineExceeded")
