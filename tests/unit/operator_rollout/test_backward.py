"""A rollout that fails: what counts as failure, and how every touched target gets back what it had."""

from __future__ import annotations

from typing import Any

import pytest

from coppice_operator.plan import Action, ApplyObject, JsonPatchObject
from coppice_operator.rollout.analysis import Answer, Query
from tests.unit.operator_rollout.simulator import DENSE, PRUNED, Simulation, condition, deployment, env_value
from tests.unit.operator_rollout.test_forward import ANALYSIS, NAMES, good, simulation


def bad(query: Query) -> Answer:
    """Good until the second wave, when digits-b makes errors."""
    if query.key.target.name == "digits-b" and query.key.check == "errors":
        return Answer(0.25)
    return good(query)


def set_value(run: Simulation, name: str, value: str) -> None:
    entries = run.fleet[name]["spec"]["template"]["spec"]["containers"][0]["env"]
    next(entry for entry in entries if entry["name"] == "MODEL_URI")["value"] = value


def target(run: Simulation, name: str) -> dict[str, Any]:
    return next(entry for entry in run.status["targets"] if entry["name"] == name)


def test_a_failed_check_takes_every_touched_target_back() -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=bad).run()
    assert run.state == "RolledBack"
    assert set(run.values().values()) == {DENSE}
    assert {entry["state"] for entry in run.status["targets"]} == {"RolledBack"}
    assert run.status["failureReason"] == "AnalysisFailed"
    assert "check errors failed on digits-b: 0.25 is above the maximum 0.0" in run.status["failureMessage"]
    assert [condition(run.rollout, kind)["status"] for kind in ("Ready", "Reconciling", "Stalled")] == [
        "False",
        "False",
        "True",
    ]
    assert run.reasons()[-2:] == ["AnalysisFailed", "RolledBack"]
    assert run.reasons().count("AnalysisFailed") == run.reasons().count("RolledBack") == 1
    assert run.stable()


def test_targets_of_later_waves_stay_pending() -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=lambda query: Answer(1.0)).run()
    assert [entry["state"] for entry in run.status["targets"]] == ["RolledBack", "Pending", "Pending"]
    assert {action.manifest["metadata"]["name"] for action in run.actions} == {"digits-a"}  # type: ignore[union-attr]


def test_hold_leaves_targets_as_they_are() -> None:
    run = simulation(spec={"analysis": ANALYSIS, "onFailure": "Hold"}, answer=bad).run()
    assert run.state == "Held" and set(run.values().values()) == {PRUNED}
    assert condition(run.rollout, "Stalled")["status"] == "True"
    assert run.stable()


@pytest.mark.parametrize("lost", range(0, 50, 2))
def test_actions_lost_in_any_pass_change_nothing_in_the_end(lost: int) -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=bad, lost=lambda number: number in (lost, lost + 1)).run()
    assert run.state == "RolledBack" and set(run.values().values()) == {DENSE}


def test_a_variable_that_was_not_set_is_removed() -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=lambda query: Answer(1.0))
    run.fleet["digits-a"] = deployment("digits-a", None)
    run.run()
    assert run.state == "RolledBack" and env_value(run.fleet["digits-a"]) is None
    assert target(run, "digits-a")["previousValueSet"] is False
    removal = run.actions[-1]
    assert isinstance(removal, JsonPatchObject)
    env = "/spec/template/spec/containers/0/env/1"
    assert removal.patch == (
        {"op": "test", "path": "/spec/template/spec/containers/0/name", "value": "server"},
        {"op": "test", "path": f"{env}/name", "value": "MODEL_URI"},
        {"op": "test", "path": f"{env}/value", "value": PRUNED},
        {"op": "remove", "path": env},
    )


def test_an_empty_value_is_put_back_as_empty() -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=lambda query: Answer(1.0))
    run.fleet["digits-a"] = deployment("digits-a", "")
    run.run()
    assert run.state == "RolledBack" and env_value(run.fleet["digits-a"]) == ""


def test_a_target_that_never_becomes_available_fails_by_its_deadline() -> None:
    run = simulation(spec={"strategy.progressDeadlineSeconds": 20}, broken=lambda name, value: value == PRUNED).run()
    assert run.state == "RolledBack" and run.status["failureReason"] == "ProgressDeadlineExceeded"
    assert set(run.values().values()) == {DENSE}


def test_the_deployments_own_deadline_counts_too() -> None:
    run = simulation(broken=lambda name, value: value == PRUNED)
    run.run(until=lambda: env_value(run.fleet["digits-a"]) == PRUNED)
    run.step()
    run.fleet["digits-a"]["status"]["conditions"].append(
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    )
    run.step()
    assert run.status["failureReason"] == "ProgressDeadlineExceeded"


def test_a_target_that_stays_unavailable_after_its_update_fails_the_rollout() -> None:
    run = simulation(spec={"strategy.progressDeadlineSeconds": 20})
    run.run(until=lambda: run.state == "Waiting")
    status = run.fleet["digits-a"]["status"]
    status["availableReplicas"] = 0
    status["conditions"][0] = {"type": "Available", "status": "False", "lastTransitionTime": run.now.isoformat()}
    run.run(until=lambda: run.state == "RollingBack")
    assert run.status["failureReason"] == "ProgressDeadlineExceeded"


class TestSomebodyElse:
    def test_a_third_value_fails_the_rollout_and_is_left_alone(self) -> None:
        run = simulation(spec={"analysis": ANALYSIS}, answer=good)
        run.run(until=lambda: run.status["wave"] == 2 and run.state == "Waiting")
        set_value(run, "digits-b", "pvc://somebody/else")
        run.run()
        assert run.state == "RolledBack" and run.status["failureReason"] == "TargetClaimed"
        assert run.values() == {"digits-a": DENSE, "digits-b": "pvc://somebody/else", "digits-c": DENSE}
        assert target(run, "digits-b")["state"] == "Blocked"
        assert "digits-b" in condition(run.rollout, "Ready")["message"]

    def test_a_value_put_back_by_somebody_is_not_fought_over(self) -> None:
        run = simulation()
        run.run(until=lambda: run.state == "Waiting")
        set_value(run, "digits-a", DENSE)
        run.run()
        assert run.state == "RolledBack" and run.status["failureReason"] == "TargetClaimed"
        assert len(run.actions) == 1

    def test_a_change_between_remembering_and_writing_is_not_overwritten(self) -> None:
        run = simulation()
        run.step()
        set_value(run, "digits-a", "pvc://somebody/else")
        run.run()
        assert run.status["failureReason"] == "TargetClaimed" and not run.actions


class TestGone:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_deployment_deleted_during_the_rollout_fails_it(self, name: str) -> None:
        run = simulation()
        run.run(until=lambda: run.state == "Waiting")
        del run.fleet[name]
        run.run()
        assert run.state == "RolledBack" and run.status["failureReason"] == "TargetNotFound"
        assert set(run.values().values()) == {DENSE}

    def test_a_container_renamed_during_the_rollout_fails_it(self) -> None:
        run = simulation()
        run.run(until=lambda: run.state == "Waiting")
        run.fleet["digits-b"]["spec"]["template"]["spec"]["containers"][0]["name"] = "other"
        run.run()
        assert run.state == "RolledBack" and run.status["failureReason"] == "TargetInvalid"


class TestRollbackThatMeetsTrouble:
    def test_a_target_whose_old_model_is_broken_too_does_not_hold_the_others(self) -> None:
        run = simulation(
            spec={"analysis": ANALYSIS, "strategy.maxUnavailable": 1, "strategy.progressDeadlineSeconds": 30},
            answer=bad,
        )
        run.run(until=lambda: run.state == "RollingBack")
        run.broken = lambda name, value: name == "digits-a"
        run.run()
        assert run.state == "RolledBack" and set(run.values().values()) == {DENSE}
        assert target(run, "digits-a")["state"] == "Blocked"
        assert run.most_in_transition == 1

    def test_a_write_that_is_never_accepted_does_not_hold_the_others(self) -> None:
        run = simulation(
            spec={"analysis": ANALYSIS, "strategy.maxUnavailable": 1, "strategy.progressDeadlineSeconds": 30},
            answer=bad,
        )
        run.run(until=lambda: run.state == "RollingBack")
        write = run._write
        refused = "digits-a"

        def refusing(action: Action) -> None:
            if not (isinstance(action, ApplyObject) and action.manifest["metadata"]["name"] == refused):
                write(action)

        run._write = refusing  # type: ignore[method-assign]
        run.run(until=lambda: run.values()["digits-b"] == run.values()["digits-c"] == DENSE)
        assert run.state == "RollingBack"
        refused = ""
        assert run.run().state == "RolledBack"

    def test_paused_stops_the_way_back_too(self) -> None:
        run = simulation(spec={"analysis": ANALYSIS}, answer=bad)
        run.run(until=lambda: run.state == "RollingBack")
        run.rollout["spec"]["paused"] = True
        run.settle()
        assert run.state == "Paused" and set(run.values().values()) == {PRUNED}
        run.rollout["spec"]["paused"] = False
        assert run.run().state == "RolledBack"


@pytest.mark.parametrize("delay", range(6))
def test_a_write_that_was_not_seen_before_the_failure_is_taken_back_too(delay: int) -> None:
    run = simulation(spec={"strategy.waves": [{"targets": "100%"}]}, lag=4)
    run.run(until=lambda: bool(run.actions))
    for _ in range(delay):
        run.step()
    # digits-c disappears: the rollout fails while the cache still shows the others before their write.
    del run.fleet["digits-c"]
    run._seen = [[entry for entry in seen if entry[0] != "digits-c"] for seen in run._seen]
    run.run()
    assert run.state == "RolledBack" and set(run.values().values()) == {DENSE}
