"""`coppice rollout` against the real API server; the test plays the operator unless it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from coppice_cli.cluster import MODEL_ROLLOUT, get, path_of
from coppice_operator.rollout.gitops import FLUX_LABELS
from devcluster import Cluster
from tests.builders import DIGEST, model_rollout
from tests.integration.cli.test_people import Fleet
from tests.integration.cli.test_people import fleet as fleet
from tests.integration.conftest import Kubectl
from tests.integration.operator.faults.world import World
from tests.waiting import wait_for

Json = dict[str, Any]
ANALYSIS: Json = {
    "prometheus": {"address": "http://prometheus:9090"},
    "checks": [
        {"name": "joules", "preset": "energyPerInference", "compare": "Before", "thresholdRange": {"max": "0.9"}},
        {"name": "errors", "preset": "errorRate", "thresholdRange": {"max": "0"}},
    ],
}
TARGETS: list[Json] = [
    {"name": "digits-a", "state": "Updated", "wave": 1, "model": "default", "container": "server",
     "previousValue": "pvc://dense", "previousValueSet": True},
    {"name": "digits-b", "state": "Updating", "wave": 2, "model": "default", "container": "server",
     "previousValue": f"pvc://old#sha256={'b' * 64}", "previousValueSet": True},
    {"name": "digits-c", "state": "Pending", "wave": 2, "model": "default", "message": "Deployment digits-c is paused"},
]  # fmt: skip
CHECKS: list[Json] = [
    {"name": "joules", "target": "digits-a", "state": "Passing", "baseline": "0.00073", "value": "0.00032",
     "passes": 2, "message": "0.00032 / 0.00073 = 0.438 is in range"},
    {"name": "errors", "target": "digits-a", "state": "Failing", "value": "0.25", "failures": 1,
     "message": "0.25 is above the maximum 0"},
]  # fmt: skip


def create(fleet: Fleet, name: str = "digits", labels: Json | None = None, **values: Any) -> None:
    document = model_rollout(**values)
    document["metadata"] = {"name": name, **({"labels": labels} if labels else {})}
    fleet.must("create", "-f", "-", stdin=document)


def rollout(fleet: Fleet, name: str = "digits") -> Json:
    item = get(fleet.api, MODEL_ROLLOUT, name)
    del item["metadata"]["managedFields"]
    return item


def say(fleet: Fleet, state: str, message: str, holds: str = "Reconciling", name: str = "digits", **more: Any) -> None:
    """Write the status that an operator would."""
    generation = rollout(fleet, name)["metadata"]["generation"]
    conditions = [
        {"type": kind, "status": str(kind == holds), "reason": state, "message": message,
         "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for kind in ("Ready", "Reconciling", "Stalled")
    ]  # fmt: skip
    status = {
        "observedGeneration": generation, "state": state, "conditions": conditions, "wave": 2, "waves": 2,
        "updatedTargets": 1, "totalTargets": 3, "targets": TARGETS, "checks": CHECKS, **more,
    }  # fmt: skip
    fleet.api.merge(path_of(fleet.api, MODEL_ROLLOUT, name) + "/status", {"status": status})


def test_status_shows_the_fleet(fleet: Fleet) -> None:
    assert fleet.coppice("rollout", "status").output == f"no ModelRollouts in namespace {fleet.name}\n"
    create(fleet, analysis=ANALYSIS)
    say(fleet, "RollingOut", "wave 2 of 2 is being rolled out")
    result = fleet.coppice("rollout", "status", "digits")
    assert result.exit_code == 0
    lines = [" ".join(text.split()) for text in result.output.splitlines()]
    for words in (
        "State RollingOut",
        f"1 digits-a Updated {DIGEST[:12]} 730 µJ 320 µJ",
        f"2 digits-b Updating {DIGEST[:12]}",
        "2 digits-c Pending Deployment digits-c is paused",
        "1 1 0 0 1 0 730 µJ 320 µJ",
        "2 2 1 1 0 0",
        "errors digits-a Failing 0.25 0 1 0.25 is above the maximum 0",
    ):
        assert words in lines
    row = fleet.coppice("rollout", "status").output.splitlines()[1]
    assert row.split()[:7] == ["digits", "2", "of", "2", "1", "of", "3"]
    assert json.loads(fleet.coppice("rollout", "status", "digits", "-o", "json").output) == rollout(fleet)


def test_what_was_taken_back_shows_what_it_has_again(fleet: Fleet) -> None:
    create(fleet)
    back = [{**target, "state": "RolledBack"} for target in TARGETS[:2]]
    say(fleet, "RolledBack", "Withdrawn: it is back", "Stalled", targets=back)
    output = fleet.coppice("rollout", "status", "digits").output
    lines = [" ".join(text.split()) for text in output.splitlines()]
    assert "1 digits-a RolledBack pvc://dense" in lines
    assert f"2 digits-b RolledBack {'b' * 12}" in lines


def test_watch_prints_a_line_a_change_until_the_end(fleet: Fleet) -> None:
    create(fleet)
    say(fleet, "RollingOut", "wave 2 of 2 is being rolled out")
    watching = fleet.started("rollout", "status", "digits", "--watch")
    assert watching.stdout is not None
    first = watching.stdout.readline()
    assert " ".join(first.split()[1:]) == (
        "RollingOut wave 2 of 2, 1 of 3 updated, 1 in transition wave 2 of 2 is being rolled out"
    )
    say(fleet, "RolledOut", "all 3 targets serve the new model", "Ready", updatedTargets=3)
    output, _ = watching.communicate(timeout=60)
    assert "RolledOut" in output and "3 of 3 updated" in output
    assert watching.returncode == 0
    say(fleet, "RolledBack", "AnalysisFailed: too many errors", "Stalled")
    assert fleet.coppice("rollout", "status", "digits", "--watch").exit_code == 2


def test_what_is_not_there_is_said(fleet: Fleet) -> None:
    for command in ("status", "approve", "pause", "resume", "abort", "undo"):
        result = fleet.coppice("rollout", command, "nothing")
        assert result.exit_code == 1
        assert result.output == f"error: there is no ModelRollout nothing in namespace {fleet.name}\n"


def test_approve_lets_the_wave_begin_that_waits(fleet: Fleet) -> None:
    create(fleet, strategy__approval="Manual")
    say(fleet, "WaitingForApproval", "wave 2 of 3 begins when ...", wave=1, waves=3)
    assert fleet.coppice("rollout", "approve", "digits").output == "digits: wave 2 is approved\n"
    assert rollout(fleet)["spec"]["strategy"]["approvedWave"] == 2
    assert fleet.coppice("rollout", "approve", "digits").output == "digits: wave 2 is approved already\n"
    assert fleet.coppice("rollout", "approve", "digits", "--wave", "3").exit_code == 0
    assert rollout(fleet)["spec"]["strategy"]["approvedWave"] == 3
    refused = fleet.coppice("rollout", "approve", "digits", "--wave", "4")
    assert (refused.exit_code, refused.output) == (1, "error: digits has 3 waves: there is no wave 4\n")


def test_approve_refuses_where_nothing_waits(fleet: Fleet) -> None:
    create(fleet)
    say(fleet, "RollingOut", "wave 1 of 2 is being rolled out", wave=1)
    refused = fleet.coppice("rollout", "approve", "digits")
    assert refused.exit_code == 1
    assert "no wave of digits waits for approval (RollingOut: wave 1" in refused.output
    say(fleet, "RolledOut", "all serve it", "Ready")
    assert "digits has ended (RolledOut: all serve it)" in fleet.coppice("rollout", "approve", "digits").output
    assert rollout(fleet)["metadata"]["generation"] == 1


def test_pause_and_resume(fleet: Fleet) -> None:
    create(fleet)
    say(fleet, "RollingOut", "wave 1 of 2 is being rolled out")
    refused = fleet.coppice("rollout", "resume", "digits")
    assert refused.exit_code == 1 and "digits is not paused" in refused.output
    assert fleet.coppice("rollout", "pause", "digits").exit_code == 0
    assert rollout(fleet)["spec"]["paused"] is True
    assert "paused already" in fleet.coppice("rollout", "pause", "digits").output
    assert fleet.coppice("rollout", "resume", "digits").exit_code == 0
    assert rollout(fleet)["spec"]["paused"] is False
    say(fleet, "RolledOut", "all serve it", "Ready")
    assert fleet.coppice("rollout", "pause", "digits").exit_code == 1


def test_abort_is_for_what_is_under_way_and_undo_for_what_has_ended(fleet: Fleet) -> None:
    create(fleet)
    say(fleet, "RollingOut", "wave 2 of 2 is being rolled out")
    refused = fleet.coppice("rollout", "undo", "digits")
    assert refused.exit_code == 1 and "take it back with `coppice rollout abort digits`" in refused.output
    assert "withdrawn" not in rollout(fleet)["spec"] or rollout(fleet)["spec"]["withdrawn"] is False
    aborted = fleet.coppice("rollout", "abort", "digits")
    assert aborted.exit_code == 0 and "its targets get back what they had, newest first" in aborted.output
    assert rollout(fleet)["spec"]["withdrawn"] is True
    assert "withdrawn already" in fleet.coppice("rollout", "abort", "digits").output
    assert fleet.coppice("rollout", "pause", "digits").exit_code == 1

    create(fleet, "letters")
    say(fleet, "RolledOut", "all serve it", "Ready", "letters")
    refused = fleet.coppice("rollout", "abort", "letters")
    assert refused.exit_code == 1 and "take it back with `coppice rollout undo letters`" in refused.output
    assert fleet.coppice("rollout", "undo", "letters").exit_code == 0
    assert rollout(fleet, "letters")["spec"]["withdrawn"] is True

    create(fleet, "words")
    back = [{**target, "state": "RolledBack"} for target in TARGETS]
    say(fleet, "RolledBack", "it is back", "Stalled", "words", targets=back)
    refused = fleet.coppice("rollout", "undo", "words")
    assert refused.exit_code == 1 and "no target of words has its model any more" in refused.output


def test_a_gitops_tool_that_may_undo_it_is_named(fleet: Fleet) -> None:
    create(fleet, labels={FLUX_LABELS[0]: "fleet"})
    result = fleet.coppice("rollout", "pause", "digits")
    assert result.exit_code == 0
    assert (
        'Flux (label kustomize.toolkit.fluxcd.io/name) owns this ModelRollout and may undo that: put {"paused": '
        in (result.output)
    )


def test_of_a_rollout_that_a_prunejob_made_the_prunejob_is_changed(fleet: Fleet) -> None:
    uid = fleet.create(rollout={"targets": [{"name": "digits-a"}]})["metadata"]["uid"]
    document = model_rollout()
    owner = {"apiVersion": "coppice.dev/v1alpha1", "kind": "PruneJob", "name": "digits", "uid": uid, "controller": True}
    document["metadata"] = {"name": "digits-0a1b", "ownerReferences": [owner]}
    fleet.must("create", "-f", "-", stdin=document)
    result = fleet.coppice("rollout", "abort", "digits-0a1b")
    assert result.exit_code == 0
    assert "note: PruneJob digits made this rollout, so its spec.rollout was changed" in result.output
    assert fleet.get()["spec"]["rollout"]["withdrawn"] is True
    assert rollout(fleet, "digits-0a1b")["metadata"]["generation"] == 1


@pytest.fixture
def world(cluster: Cluster, kubectl: Kubectl, fleet: Fleet, tmp_path_factory: Any) -> Iterator[World]:
    """An operator of its own, in a namespace beside the test's."""
    with World(cluster, f"w-{fleet.name}"[:60], tmp_path_factory.mktemp("world")) as made:
        yield made


def test_a_real_rollout_is_approved_paused_and_undone(world: World, fleet: Fleet) -> None:
    names = ("digits-a", "digits-b")
    for name in names:
        world.deployment(name)
    world.rollout(
        targets=[{"name": name} for name in names],
        strategy={"waves": [{"targets": 1}, {"targets": "100%", "approval": True}]},
    )
    fleet.name = world.name

    def state() -> str:
        return str(world.get("modelrollouts").get("status", {}).get("state", ""))

    world.until(lambda: state() == "WaitingForApproval", "the second wave waits")
    assert fleet.coppice("rollout", "pause", "digits").exit_code == 0
    world.until(lambda: state() == "Paused", "the pause")
    assert "digits is paused" in fleet.coppice("rollout", "approve", "digits", "--wave", "2").output
    assert fleet.coppice("rollout", "resume", "digits").exit_code == 0
    world.until(lambda: state() == "RolledOut", "the end")
    assert fleet.coppice("rollout", "undo", "digits").exit_code == 0
    world.until(lambda: state() == "RolledBack", "the way back")
    assert [world.model_of(name) for name in names] == ["", ""]
    wait_for(lambda: "RolledBack" in fleet.coppice("rollout", "status", "digits").output, "its picture")


def test_rollback_refuses_what_is_not_in_the_history(fleet: Fleet) -> None:
    create(fleet)
    say(fleet, "RolledOut", "all serve it", "Ready")
    nothing = fleet.coppice("rollback", "digits")
    assert nothing.exit_code == 1
    assert "no other model: `coppice rollout undo digits` gives every target what it had" in nothing.output
    revision = {"rollout": "digits", "models": [{"name": "default", "uri": "pvc://m", "sha256": DIGEST}]}
    say(fleet, "RolledOut", "all serve it", "Ready", history=[revision])
    unknown = fleet.coppice("rollback", "digits", "--to", "0123")
    assert (unknown.exit_code, unknown.output) == (
        1, f"error: the history of digits has no digest that begins with 0123; it has: {DIGEST[:12]}\n",
    )  # fmt: skip
    assert DIGEST[:12] in fleet.coppice("rollback", "digits", "--list").output
    assert [item["metadata"]["name"] for item in fleet.api.list_all(path_of(fleet.api, MODEL_ROLLOUT, "")[:-1])] == [
        "digits"
    ]


def test_a_real_fleet_goes_back_to_any_digest_it_has_had(world: World, fleet: Fleet) -> None:
    world.deployment("digits-a")
    at_once = {"waves": [{"targets": "100%"}]}
    uris = {letter: f"pvc://fleet-models/runs/{letter}" for letter in "abc"}
    for letter, uri in uris.items():
        models = [{"name": "default", "uri": uri, "sha256": letter * 64}]
        world.rollout(letter, targets=[{"name": "digits-a"}], strategy=at_once, models=models)
        world.until(lambda: world.holds("Ready", letter, reason="RolledOut", resource="modelrollouts"), letter)  # noqa: B023
    fleet.name = world.name
    # What brought it is long gone.
    world.delete("modelrollouts", "a")
    made = fleet.coppice("rollback", "c", "--to", "aaaa")
    assert made.exit_code == 0, made.output
    world.until(lambda: world.model_of("digits-a") == f"{uris['a']}#sha256={'a' * 64}", "the first model again")
    name = made.output.split()[0]
    world.until(lambda: world.holds("Ready", name, reason="RolledOut", resource="modelrollouts"), "the way back")
    again = fleet.coppice("rollback", name)
    assert again.exit_code == 0, again.output
    world.until(lambda: world.model_of("digits-a") == f"{uris['c']}#sha256={'c' * 64}", "the one before")


def test_rollback_replaces_a_rollout_that_is_under_way(world: World, fleet: Fleet) -> None:
    names = ("digits-a", "digits-b")
    for name in names:
        world.deployment(name)
    targets = [{"name": name} for name in names]
    world.rollout("good", targets=targets, strategy={"waves": [{"targets": "100%"}]})
    world.until(lambda: world.holds("Ready", "good", reason="RolledOut", resource="modelrollouts"), "the first")
    world.rollout(
        "doubtful", targets=targets, strategy={"waves": [{"targets": 1}, {"targets": "100%", "approval": True}]},
        models=[{"name": "default", "uri": "pvc://fleet-models/runs/b", "sha256": "b" * 64}],
    )  # fmt: skip

    def waits() -> bool:
        return bool(world.get("modelrollouts", "doubtful").get("status", {}).get("state") == "WaitingForApproval")

    world.until(waits, "the second waits")
    fleet.name = world.name
    made = fleet.coppice("rollback", "doubtful")
    assert made.exit_code == 0, made.output
    name = made.output.split()[0]
    world.until(lambda: world.holds("Ready", name, reason="RolledOut", resource="modelrollouts"), "the way back")
    assert {world.model_of(target) for target in names} == {f"pvc://fleet-models/runs/pruned#sha256={DIGEST}"}
    assert world.get("modelrollouts", "doubtful")["status"]["state"] == "Superseded"
