"""A status that is wiped: what targets held, and how the rollout ended, are remembered beside it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coppice_api.constants import ANNOTATION_RECORD
from coppice_api.modelrollout import TargetKey, TargetKind
from coppice_operator.rollout.question import Answer
from coppice_operator.rollout.record import MAX_ANNOTATIONS_BYTES, Record, fitted, read, written
from tests.unit.operator_rollout import test_clusters as clusters
from tests.unit.operator_rollout.simulator import DENSE, PRUNED, Simulation, condition, rollout
from tests.unit.operator_rollout.test_forward import NAMES, simulation
from tests.unit.operator_rollout.test_mixed_fleet import BARE, mixed

CHECK = {"name": "accuracy", "preset": "accuracy", "thresholdRange": {"min": "0.97"}}
ANALYSIS = {"prometheus": {"address": "http://prometheus:9090"}, "intervalSeconds": 5, "checks": [CHECK]}
KEYS = [TargetKey(f"inference-server-{number:04}") for number in range(3000)]


def bad_in_the_end(query: Any) -> Answer:
    """A model that is good for the canary and bad for the others."""
    return Answer(0.98 if query.key.target == TargetKey(NAMES[0]) else 0.5)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def wipe(run: Simulation) -> None:
    run.rollout.pop("status")


@pytest.mark.parametrize("passes", range(1, 40, 2))
def test_a_rollout_whose_status_is_wiped_at_any_moment_still_knows_the_way_back(passes: int) -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=bad_in_the_end)
    for _ in range(passes):
        run.step()
    wipe(run)
    run.run(until=lambda: run.state == "RolledBack")
    assert set(run.values().values()) == {DENSE}
    assert PRUNED not in {target.get("previousValue") for target in run.status["targets"]}


def test_a_rollout_that_has_turned_round_does_not_turn_again() -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=bad_in_the_end)
    run.run(until=lambda: run.state == "RollingBack")
    run.step()
    wipe(run)
    written_before = len(run.actions)
    run.run()
    assert (run.state, run.status["failureReason"]) == ("RolledBack", "AnalysisFailed")
    assert set(run.values().values()) == {DENSE}
    assert all(PRUNED not in str(action) for action in run.actions[written_before:])


@pytest.mark.parametrize("on_failure", ["Rollback", "Hold"])
@pytest.mark.parametrize("answer", [bad_in_the_end, lambda _: Answer(0.98)], ids=["bad", "good"])
def test_one_that_has_ended_stays_as_it_is(on_failure: str, answer: Any) -> None:
    run = simulation(spec={"analysis": ANALYSIS, "onFailure": on_failure}, answer=answer).run().settle()
    before, values, count = run.status, run.values(), len(run.actions)
    wipe(run)
    run.settle()
    assert (run.state, run.values(), len(run.actions)) == (before["state"], values, count)
    assert condition(run.rollout, "Ready")["message"] == condition({"status": before}, "Ready")["message"]
    assert run.status.get("failureReason") == before.get("failureReason")
    # And there still is a way back.
    run.rollout["spec"]["withdrawn"] = True
    run.run(until=lambda: set(run.values().values()) == {DENSE})


def test_a_check_whose_baseline_is_lost_holds_for_a_person() -> None:
    check = {"name": "energy", "preset": "energyPerInference", "compare": "Before", "thresholdRange": {"max": "0.9"}}
    run = simulation(spec={"analysis": {**ANALYSIS, "checks": [check]}}, answer=lambda _: Answer(0.4))
    run.run(until=lambda: run.values()[NAMES[0]] == PRUNED and run.state == "Waiting")
    wipe(run)
    run.run(until=lambda: run.state == "NoData")
    assert "no ratio to the value before: there is none" in condition(run.rollout, "Ready")["message"]
    assert run.values()[NAMES[1]] == DENSE


def test_each_kind_gets_back_what_it_had() -> None:
    run = mixed(broken=lambda name, held: name == "d" and held == BARE)
    run.run(until=lambda: run.values()["d"] == BARE)
    wipe(run)
    assert run.run().state == "RolledBack"
    assert set(run.values().values()) == {DENSE}


@pytest.mark.parametrize("ended", [False, True])
def test_a_cluster_that_is_away_is_waited_for_before_anything_is_decided(ended: bool) -> None:
    run = clusters.fleet("a", "b", "c", "d")
    run.run(until=lambda: run.state == "RolledOut" if ended else run.values()["c"] == PRUNED)
    wipe(run)
    run.down["berlin"] = clusters.FAULT
    run.rollout["spec"]["withdrawn"] = True
    values = run.values()
    run.settle()
    assert (run.state, run.values()) == ("ClusterUnreachable", values)
    assert "the status was lost" in clusters.message(run)
    run.down.clear()
    run.run(until=lambda: run.state == "RolledBack")
    assert set(run.values().values()) == {DENSE}


def test_a_target_that_is_away_is_waited_for_and_an_end_stays_an_end() -> None:
    run = simulation().run().settle()
    count = len(run.actions)
    wipe(run)
    away = run.fleet.pop(NAMES[2])
    run.settle()
    assert run.state == "TargetNotFound"
    run.fleet[NAMES[2]] = away
    run.settle()
    assert (run.state, len(run.actions)) == ("RolledOut", count)


def test_it_costs_a_write_a_wave_and_one_at_the_end() -> None:
    run = simulation().run().settle()
    assert run.record_writes == run.status["waves"] + 1


def test_a_thousand_values_are_few_bytes_and_never_more_than_the_api_server_takes() -> None:
    alike = Record(dict.fromkeys(KEYS, DENSE))
    assert len(written(alike, {})) < 20_000
    different = Record({key: "".join(_digest(f"{key} {part}") for part in range(30)) for key in KEYS})
    others = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 50_000}
    kept = fitted(different, {"annotations": others})
    assert kept is not None and not kept.complete and 100 < len(kept.held) < len(KEYS)
    assert len(written(kept, {})) + 50_000 < MAX_ANNOTATIONS_BYTES
    assert fitted(alike, {"annotations": {"full": "x" * MAX_ANNOTATIONS_BYTES}}) is None


def test_a_target_of_which_nobody_knows_what_it_held_is_left_alone_on_the_way_back() -> None:
    run = simulation(spec={"strategy.waves": [{"targets": "100%"}]}).run().settle()
    record = read(run.rollout["metadata"])
    assert record is not None
    less = Record({TargetKey(NAMES[0]): DENSE}, complete=False, wave=1)
    run.rollout["metadata"]["annotations"][ANNOTATION_RECORD] = written(less, run.rollout["metadata"])
    wipe(run)
    run.rollout["spec"]["withdrawn"] = True
    run.run(until=lambda: run.state == "RolledBack")
    assert run.values() == {NAMES[0]: DENSE, NAMES[1]: PRUNED, NAMES[2]: PRUNED}
    assert "the status was lost" in run.status["targets"][1]["message"]


def test_the_record_of_another_object_is_none() -> None:
    # Targets of one name in two clusters, or of two kinds, are two.
    held = {
        KEYS[0]: DENSE,
        TargetKey(KEYS[0].name, TargetKind.STATEFUL_SET): None,
        TargetKey(KEYS[0].name, cluster="b"): "x",
    }
    text = written(Record(held), {"uid": "one"})
    assert read({"uid": "one", "annotations": {ANNOTATION_RECORD: text}}) == Record(held)
    assert read({"uid": "other", "annotations": {ANNOTATION_RECORD: text}}) is None


@given(st.text() | st.binary().map(lambda data: data.hex()) | st.none() | st.integers())
def test_whatever_somebody_writes_there_is_read_or_passed_over(text: Any) -> None:
    assert read({"annotations": {ANNOTATION_RECORD: text}}) is None


def test_a_rollout_without_a_record_begins_as_ever() -> None:
    run = Simulation(rollout(NAMES[0]), [], lost=lambda _: False)
    run.step()
    assert run.state == "TargetNotFound" and run.record_writes == 0
