"""A rollout on its way forward: waves, bake, approval, pausing, crashes, and a quiet end."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coppice_operator.plan import ApplyObject, PatchObject
from coppice_operator.rollout.analysis import Answer, due_queries
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.plan import plan
from tests.unit.operator_rollout.simulator import (
    DENSE,
    PRUNED,
    START,
    Simulation,
    condition,
    deployment,
    rollout,
)

NAMES = ("digits-a", "digits-b", "digits-c")
WAVES = [{"targets": 1, "pauseSeconds": 10}, {"targets": "100%", "pauseSeconds": 10}]
ANALYSIS: dict[str, Any] = {
    "prometheus": {"address": "http://prometheus:9090/"},
    "intervalSeconds": 5,
    "windowSeconds": 30,
    "checks": [
        {"name": "energy", "preset": "energyPerInference", "compare": "Before", "thresholdRange": {"max": "0.9"}},
        {"name": "accuracy", "preset": "accuracy", "thresholdRange": {"min": "0.97"}},
        {"name": "errors", "preset": "errorRate", "thresholdRange": {"max": "0.0"}},
    ],
}


def good(query: Any) -> Answer:
    """A fleet that saves 60 %, stays accurate and makes no errors."""
    values = {"energy": 1.0 if query.key.purpose == "baseline" else 0.4, "accuracy": 0.98, "errors": 0.0}
    return Answer(values[query.key.check])


def simulation(*, names: tuple[str, ...] = NAMES, spec: dict[str, Any] | None = None, **options: Any) -> Simulation:
    merged = {"strategy.waves": WAVES, **(spec or {})}
    document = rollout(*names, **{key.replace(".", "__"): value for key, value in merged.items()})
    return Simulation(document, [deployment(name) for name in names], **options)


def test_the_digits_example_goes_to_its_end() -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=good).run()
    assert run.state == "RolledOut"
    assert set(run.values().values()) == {PRUNED}
    assert (run.status["wave"], run.status["waves"]) == (2, 2)
    assert (run.status["updatedTargets"], run.status["totalTargets"]) == (3, 3)
    assert [condition(run.rollout, kind)["status"] for kind in ("Ready", "Reconciling", "Stalled")] == [
        "True",
        "False",
        "False",
    ]
    assert [event.message for event in run.events] == [
        "wave 1 of 2 begins: 1 of 3 targets",
        "wave 1 of 2 is done",
        "wave 2 of 2 begins: 2 of 3 targets",
        "wave 2 of 2 is done",
        "all 3 targets serve the new model and every check passed",
    ]
    # One write a target: nothing is applied twice when nothing is lost.
    assert len(run.actions) == 3
    # Once the API server's writes are seen nothing more happens, however often it is planned.
    writes = run.status_writes
    for _ in range(5):
        made = run.step()
        assert made.requeue_after_seconds is None
    assert run.status_writes == writes and len(run.actions) == 3


def test_a_plan_is_deterministic_and_leaves_its_input_alone() -> None:
    run = simulation()
    seen = run.observe()
    kept = copy.deepcopy(seen)
    assert plan(seen, START) == plan(seen, START)
    assert seen == kept


def test_what_a_target_held_is_stored_in_a_pass_before_it_is_touched() -> None:
    run = simulation()
    first = run.step()
    # What it held is kept in the status, then beside it; the target itself comes in the next pass.
    assert [type(action) for action in first.actions] == [PatchObject]
    assert run.status["targets"][0] == {
        "kind": "Deployment",
        "name": "digits-a",
        "container": "server",
        "model": "default",
        "state": "Updating",
        "wave": 1,
        "previousValue": DENSE,
        "previousValueSet": True,
        "updatedTime": "2026-11-01T12:00:00Z",
    }
    second = run.step()
    assert second.actions == (
        ApplyObject(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "digits-a", "namespace": "fleet"},
                "spec": {
                    "template": {
                        "spec": {"containers": [{"name": "server", "env": [{"name": "MODEL_URI", "value": PRUNED}]}]}
                    }
                },
            }
        ),
    )
    assert env_untouched(run)


def env_untouched(run: Simulation) -> bool:
    return run.values()["digits-b"] == run.values()["digits-c"] == DENSE


def test_a_wave_waits_for_its_pause() -> None:
    run = simulation()
    run.run(until=lambda: "waveAvailableTime" in run.status)
    begun = run.now
    run.run(until=lambda: run.status["wave"] == 2)
    assert (run.now - begun).total_seconds() >= 9
    assert env_untouched(run)


def test_observed_generation_follows_the_spec_even_when_finished() -> None:
    run = simulation().run()
    run.rollout["metadata"]["generation"] = 7
    run.settle()
    assert run.status["observedGeneration"] == 7
    assert condition(run.rollout, "Ready")["observedGeneration"] == 7
    assert run.state == "RolledOut"


def test_a_finished_rollout_never_touches_its_targets_again() -> None:
    run = simulation().run()
    run.fleet["digits-a"]["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] = "pvc://next"
    assert run.stable()


class TestApproval:
    def test_manual_approval_holds_every_wave(self) -> None:
        run = simulation(spec={"strategy.approval": "Manual"}).settle()
        assert run.state == "WaitingForApproval" and run.status["wave"] == 0
        assert not run.actions
        run.rollout["spec"]["strategy"]["approvedWave"] = 1
        run.run(until=lambda: run.state == "WaitingForApproval")
        assert run.status["wave"] == 1 and run.status["updatedTargets"] == 1
        assert "strategy.approvedWave is 2" in condition(run.rollout, "Ready")["message"]
        run.rollout["spec"]["strategy"]["approvedWave"] = 2
        run.run()
        assert run.state == "RolledOut"
        assert run.reasons().count("WaitingForApproval") == 2

    def test_one_wave_may_ask_for_approval(self) -> None:
        run = simulation(spec={"strategy.waves": [{"targets": 1}, {"targets": "100%", "approval": True}]})
        run.run(until=lambda: run.state == "WaitingForApproval")
        assert run.status["wave"] == 1

    def test_checks_go_on_while_approval_is_awaited_and_may_take_it_back(self) -> None:
        run = simulation(spec={"strategy.approval": "Manual", "strategy.approvedWave": 1, "analysis": ANALYSIS})
        run.answer = good
        run.run(until=lambda: run.state == "WaitingForApproval")
        run.answer = lambda query: Answer(0.5)
        run.run()
        assert run.state == "RolledBack" and run.status["failureReason"] == "AnalysisFailed"
        assert set(run.values().values()) == {DENSE}


class TestPaused:
    def test_a_paused_rollout_keeps_its_status_and_does_nothing(self) -> None:
        run = simulation(spec={"paused": True}).settle()
        assert run.state == "Paused" and not run.actions and "failureReason" not in run.status

    @pytest.mark.parametrize("after", range(8))
    def test_pausing_anywhere_only_delays(self, after: int) -> None:
        run = simulation(spec={"analysis": ANALYSIS}, answer=good)
        for _ in range(after):
            run.step()
        run.rollout["spec"]["paused"] = True
        run.settle()
        written, asked = len(run.actions), len(run.queries)
        targets = run.status.get("targets")
        run.now = run.now.replace(year=2027)
        run.step()
        assert (len(run.actions), len(run.queries), run.status.get("targets")) == (written, asked, targets)
        run.rollout["spec"]["paused"] = False
        assert run.run().state == "RolledOut"


class TestHealth:
    def test_an_unhealthy_target_is_not_touched_and_the_rollout_waits(self) -> None:
        run = simulation()
        run.fleet["digits-a"]["status"]["conditions"][0]["status"] = "False"
        run.settle()
        assert run.state == "TargetUnhealthy" and not run.actions
        assert "digits-a is not available" in condition(run.rollout, "Ready")["message"]
        run.fleet["digits-a"]["status"]["conditions"][0]["status"] = "True"
        assert run.run().state == "RolledOut"

    def test_a_paused_deployment_is_not_touched(self) -> None:
        run = simulation()
        run.fleet["digits-a"]["spec"]["paused"] = True
        assert run.settle().state == "TargetUnhealthy"

    def test_a_wave_is_not_done_while_a_target_restarts(self) -> None:
        run = simulation()
        run.run(until=lambda: run.state == "Waiting")
        status = run.fleet["digits-a"]["status"]
        status["availableReplicas"] = 0
        for _ in range(30):
            run.step()
        assert run.status["wave"] == 1 and run.state == "Waiting"
        status["availableReplicas"] = 1
        assert run.run().state == "RolledOut"


def test_at_most_max_unavailable_targets_are_in_transition() -> None:
    names = tuple(f"web-{index}" for index in range(9))
    run = simulation(names=names, spec={"strategy.waves": [{"targets": "100%"}], "strategy.maxUnavailable": 2}).run()
    assert run.state == "RolledOut" and run.most_in_transition == 2


def test_a_wave_that_adds_no_target_still_counts() -> None:
    run = simulation(spec={"strategy.waves": [{"targets": 1}, {"targets": "1%"}, {"targets": "100%"}]}).run()
    assert run.state == "RolledOut" and run.status["waves"] == 3


def test_a_target_that_already_serves_the_model_is_not_written() -> None:
    run = simulation()
    run.fleet["digits-a"] = deployment("digits-a", PRUNED)
    run.run()
    assert run.state == "RolledOut" and len(run.actions) == 2


@pytest.mark.parametrize("lost", range(25))
def test_actions_lost_in_any_pass_change_nothing_in_the_end(lost: int) -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=good, lost=lambda number: number == lost).run()
    assert run.state == "RolledOut" and set(run.values().values()) == {PRUNED}


def test_a_rollout_that_is_being_deleted_is_left_alone() -> None:
    document = rollout("digits-a")
    document["metadata"]["deletionTimestamp"] = "2026-11-01T12:00:00Z"
    made = plan(RolloutObservation(rollout=document, workloads=(deployment("digits-a"),)), START)
    assert made.status is None and not made.actions


def test_a_spec_of_another_version_is_unsupported_and_keeps_the_status() -> None:
    run = simulation()
    run.step()
    targets = run.status["targets"]
    run.rollout["spec"]["strategy"]["sideways"] = True
    run.rollout["metadata"]["generation"] += 1
    run.step()
    assert run.state == "Unsupported" and run.status["targets"] == targets
    assert due_queries(run.observe(), run.now) == ()
    assert run.stable()


def test_a_status_that_cannot_be_read_is_left_alone() -> None:
    run = simulation()
    run.rollout["status"] = {"targets": [{"state": "Sideways"}]}
    assert plan(run.observe(), START).status is None


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 8),
    limit=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 8) | st.integers(1, 100).map(lambda percent: f"{percent}%"), min_size=1, max_size=4),
    lost=st.sets(st.integers(0, 60)),
    ill=st.booleans(),
    lag=st.integers(0, 3),
)
def test_every_run_ends_right_within_its_bounds(
    count: int, limit: int, sizes: list[int | str], lost: set[int], ill: bool, lag: int
) -> None:
    names = tuple(f"web-{index}" for index in range(count))
    run = simulation(
        names=names,
        spec={
            "strategy.waves": [{"targets": size, "pauseSeconds": 1} for size in sizes],
            "strategy.maxUnavailable": limit,
            "strategy.progressDeadlineSeconds": 90,
        },
        lost=lambda number: number in lost,
        broken=lambda name, value: ill and name == names[-1] and value == PRUNED,
        ready_seconds=1,
        lag=lag,
    ).run()
    # The simulator itself asserts that nothing is touched before its previous value is stored.
    assert run.most_in_transition <= limit
    assert run.state == ("RolledBack" if ill else "RolledOut")
    assert set(run.values().values()) == {DENSE if ill else PRUNED}
    run.settle()


@settings(max_examples=40, deadline=None)
@given(
    script=st.lists(st.sampled_from([0.98, 0.5, None]), max_size=40),
    limit=st.integers(0, 5),
    silence=st.sampled_from(["Hold", "Fail", "Pass"]),
    lost=st.sets(st.integers(0, 60)),
    lag=st.integers(0, 3),
)
def test_whatever_prometheus_says_the_fleet_ends_with_one_model(
    script: list[float | None], limit: int, silence: str, lost: set[int], lag: int
) -> None:
    answers = iter(script)

    def answer(query: Any) -> Answer:
        value = next(answers, 0.98)
        return Answer(None, "the query gives no series") if value is None else Answer(value)

    check = {"name": "accuracy", "preset": "accuracy", "thresholdRange": {"min": "0.97"}}
    checks = [{**check, "failureLimit": limit, "onNoData": silence}]
    run = simulation(
        spec={"analysis": {**ANALYSIS, "checks": checks}},
        answer=answer,
        lost=lambda number: number in lost,
        lag=lag,
    ).run()
    assert set(run.values().values()) == {PRUNED if run.state == "RolledOut" else DENSE}
    run.settle()
