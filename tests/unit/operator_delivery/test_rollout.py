"""A rollout through Git, from its first wave to its end, with the repository and the fleet's tool in memory."""

from __future__ import annotations

from typing import Any

import pytest

from coppice_api.modelrollout import GitState
from tests.unit.operator_delivery.simulation import EMPTY, GitSimulation, git_rollout
from tests.unit.operator_rollout.simulator import DENSE, PRUNED, condition, deployment

NAMES = ("a", "b", "c", "d", "e")
WAVES = {"waves": [{"targets": 1}, {"targets": "100%"}]}


def fleet(**metadata: Any) -> list[dict[str, Any]]:
    return [deployment(name, **metadata) for name in NAMES]


def broken_b(name: str, value: str | None) -> bool:
    return name == "b" and value == PRUNED


def test_every_wave_is_one_commit_and_no_target_is_written() -> None:
    run = GitSimulation(git_rollout(*NAMES, strategy=WAVES), fleet()).run()
    assert run.state == "RolledOut"
    assert len(run.commits) == 3
    assert set(run.values().values()) == {PRUNED}
    first, second = run.changes
    assert [edit.name for edit in first.edits] == ["a"]
    assert [edit.name for edit in second.edits] == list(NAMES)
    assert (first.wave, second.wave) == (1, 2)
    assert run.status["git"]["state"] == "Committed"


def test_targets_that_a_gitops_tool_owns_are_what_it_is_for() -> None:
    owned = fleet(labels={"kustomize.toolkit.fluxcd.io/name": "fleet"})
    assert GitSimulation(git_rollout(*NAMES), owned).run().state == "RolledOut"


def test_a_commit_takes_no_more_than_may_be_in_transition_and_the_next_waits_for_all_of_it() -> None:
    strategy = {"waves": [{"targets": "100%"}], "maxUnavailable": 2}
    run = GitSimulation(git_rollout(*NAMES, strategy=strategy), fleet()).run()
    assert run.state == "RolledOut"
    assert run.most_in_transition == 2
    assert [len(change.edits) for change in run.changes] == [2, 4, 5]


def test_waiting_for_the_tool_is_told_with_the_commit() -> None:
    run = GitSimulation(git_rollout(*NAMES, strategy=WAVES), fleet(), sync_seconds=60)
    run.run(until=lambda: "git" in run.status)
    run.step()
    assert "commit cccccccccccc on branch main waits for the fleet's tool" in condition(run.rollout, "Ready")["message"]


def test_a_bad_model_is_taken_back_by_a_commit_that_leaves_the_file_as_it_was() -> None:
    run = GitSimulation(
        git_rollout(*NAMES, strategy={**WAVES, "progressDeadlineSeconds": 30}), fleet(), broken=broken_b
    )
    run.run()
    assert run.state == "RolledBack"
    assert run.branch == EMPTY
    assert set(run.values().values()) == {DENSE}
    assert run.changes[-1].back
    assert "ProgressDeadlineExceeded" in run.changes[-1].message


@pytest.mark.parametrize("crash", range(12))
def test_a_crash_between_any_push_and_its_outcome_commits_nothing_twice(crash: int) -> None:
    strategy = {**WAVES, "progressDeadlineSeconds": 30}
    calm = GitSimulation(git_rollout(*NAMES, strategy=strategy), fleet(), broken=broken_b).run()
    run = GitSimulation(
        git_rollout(*NAMES, strategy=strategy), fleet(), broken=broken_b,
        lost=lambda number: number == crash, bury=lambda number: number == crash % 3,
    ).run()  # fmt: skip
    assert run.state == "RolledBack"
    assert len(run.commits) == len(calm.commits)
    assert (run.branch, run.values()) == (EMPTY, calm.values())


def test_it_does_not_count_as_taken_back_before_the_branch_is() -> None:
    # The tool is slow: all targets still have the old model when the rollout gives up, and the commit is on the branch.
    run = GitSimulation(
        git_rollout("a", strategy={**WAVES, "progressDeadlineSeconds": 20}), [deployment("a")], sync_seconds=60
    )
    run.run()
    assert run.state == "RolledBack"
    assert run.branch == EMPTY
    for _ in range(100):
        run.step()
    assert run.values() == {"a": DENSE}


def test_a_merge_is_waited_for_without_a_deadline() -> None:
    document = git_rollout(*NAMES, git={"branchPrefix": "coppice/"}, strategy={**WAVES, "progressDeadlineSeconds": 30})
    run = GitSimulation(document, fleet(), server=lambda _: GitState.PROPOSED)
    run.run(until=lambda: run.state == "WaitingForMerge")
    writes = run.status_writes
    for _ in range(120):
        run.step()
    assert run.state == "WaitingForMerge"
    assert run.status_writes <= writes + 1, "waiting writes nothing"
    run.merge()
    run.run(until=lambda: run.status["wave"] == 2 and run.state == "WaitingForMerge")
    assert run.values()["a"] == PRUNED
    run.merge()
    assert run.run().state == "RolledOut"


def test_a_server_that_is_down_is_told_tried_again_and_outlived() -> None:
    down = GitSimulation(git_rollout(*NAMES, strategy=WAVES), fleet(), server=lambda run: (
        GitState.FAILED if len(run.changes) < 4 else GitState.COMMITTED
    ))  # fmt: skip
    down.run(until=lambda: down.state == "GitFailed")
    assert "the server is down" in condition(down.rollout, "Ready")["message"]
    assert condition(down.rollout, "Reconciling")["status"] == "True"
    assert down.run().state == "RolledOut"


def test_a_server_that_stays_down_fails_the_rollout_at_its_deadline() -> None:
    strategy = {**WAVES, "progressDeadlineSeconds": 100}
    run = GitSimulation(git_rollout(*NAMES, strategy=strategy), fleet(), server=lambda run: (
        GitState.COMMITTED if any(change.back for change in run.changes) else GitState.FAILED
    ))  # fmt: skip
    run.run()
    assert (run.state, run.status["failureReason"]) == ("RolledBack", "GitFailed")
    assert set(run.values().values()) == {DENSE}


def test_somebody_who_takes_the_commit_back_is_not_fought() -> None:
    run = GitSimulation(git_rollout(*NAMES, strategy=WAVES), fleet(), sync_seconds=60)
    run.run(until=lambda: len(run.commits) == 2)
    run.person(EMPTY)
    run.outcome, run.rollout["status"]["git"] = None, None  # As after a crash before the outcome was stored.
    run.run()
    assert (run.state, run.status["failureReason"]) == ("RolledBack", "TargetClaimed")
    assert run.branch == EMPTY
    assert len(run.commits) == 3


def test_what_somebody_else_gave_a_target_meanwhile_stays() -> None:
    run = GitSimulation(git_rollout(*NAMES, strategy=WAVES), fleet())
    run.run(until=lambda: run.status.get("wave") == 2)
    theirs = run.branch.replace(PRUNED, "pvc://fleet-models/theirs")
    run.person(theirs)
    run.run()
    assert (run.state, run.status["failureReason"]) == ("RolledBack", "TargetClaimed")
    assert run.values()["a"] == "pvc://fleet-models/theirs"


@pytest.mark.parametrize(
    ("git", "want"),
    [
        ({"format": "Values", "key": "model"}, "put $target into it"),
        ({"format": "Values", "keys": [{"target": "a", "key": "x"}]}, "has no entry for b"),
    ],
)
def test_a_values_file_that_cannot_tell_targets_apart_is_refused(git: dict[str, Any], want: str) -> None:
    run = GitSimulation(git_rollout(*NAMES, git={"path": "values.yaml", **git}), fleet()).settle()
    assert run.state == "TargetInvalid"
    assert want in condition(run.rollout, "Stalled")["message"]
    assert run.changes == []


def test_paused_commits_nothing() -> None:
    run = GitSimulation(git_rollout(*NAMES, strategy=WAVES, paused=True), fleet()).settle()
    assert (run.state, run.changes) == ("Paused", [])


def test_a_restart_while_it_waits_for_the_tool_asks_nothing_and_writes_nothing() -> None:
    run = GitSimulation(git_rollout(*NAMES, strategy=WAVES), fleet(), sync_seconds=600)
    run.run(until=lambda: "git" in run.status)
    run.step()
    run.outcome, before, asked = None, run.status_writes, len(run.changes)
    for _ in range(5):
        run.step()
    assert (run.status_writes, len(run.changes)) == (before, asked)


@pytest.mark.parametrize("passes", [2, 6, 11, 200], ids=["at once", "in the first wave", "later", "after its end"])
def test_a_rollout_that_is_withdrawn_is_taken_back_by_a_commit_too(passes: int) -> None:
    run = GitSimulation(git_rollout(*NAMES, strategy=WAVES), fleet())
    for _ in range(passes):
        run.step()
    run.rollout["spec"]["withdrawn"] = True
    run.rollout["metadata"]["generation"] += 1
    run.run(until=lambda: run.state == "RolledBack")
    assert set(run.values().values()) == {DENSE}
    assert run.branch == EMPTY
    assert run.stable()


def test_what_begins_to_match_joins_the_last_commit() -> None:
    labels = {"fleet": "digits"}
    document = git_rollout(strategy=WAVES, targets=[{"selector": {"matchLabels": labels}}])
    run = GitSimulation(document, fleet(labels=labels))
    run.run(until=lambda: run.status.get("wave") == 1)
    run.fleet["late"] = deployment("late", labels=labels)
    run.base["late"] = DENSE
    run.run()
    assert run.state == "RolledOut" and set(run.values().values()) == {PRUNED}
    assert [edit.name for edit in run.changes[-1].edits] == [*NAMES, "late"]
