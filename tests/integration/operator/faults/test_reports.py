"""What pods leave behind may be anything: nothing, nonsense, too much, or from another version."""

from __future__ import annotations

import json

import pytest

from coppice_api.run import Outcome, RunReport
from tests.integration.operator.faults.world import World, ended
from tests.integration.operator.support import report


def end_with(world: World, exit_code: int, message: str) -> tuple[str, str]:
    """Run one PruneJob to an end that is none of the good ones, and return the reason and the message."""
    world.prunejob()
    world.finish(exit_code=exit_code, message=message)
    world.until(lambda: world.holds("Stalled"), "the verdict")
    world.until(world.settled, "quiet")
    world.jobs()
    assert len(world.jobs_seen) == world.created_jobs() == 1
    return world.condition("Stalled")[1:]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("", id="empty"),
        pytest.param("Killed\n", id="no JSON"),
        pytest.param("[1, 2]", id="a list"),
        pytest.param('{"outcome": "Splendid"}', id="an outcome nobody knows"),
        pytest.param(json.dumps({"outcome": "TargetMet", "energyReductionRatio": "lots"}), id="text for a number"),
        pytest.param("{" * 4000, id="nested without end"),
        pytest.param("\ufffd\ufffe\U0001f333" * 300, id="no text at all"),
    ],
)
def test_a_report_that_is_none_is_said_and_ends_the_run(world: World, message: str) -> None:
    reason, said = end_with(world, 0, message)
    assert reason == "ReportUnreadable"
    assert "no report" in said


def test_a_report_cut_at_4096_bytes_is_said(world: World) -> None:
    whole = report()[:-1] + ', "later": "' + "x" * 8000 + '"}'
    reason, said = end_with(world, 0, whole.encode()[:4096].decode())
    assert reason == "ReportTooLong"
    assert len(said) < 1024


def test_a_report_of_the_next_version_with_fields_nobody_knows(world: World) -> None:
    document = {**json.loads(report()), "schemaVersion": "coppice.dev/run/v2", "soil": {"ph": 7}}
    world.prunejob()
    world.finish(message=json.dumps(document))
    world.until(lambda: world.holds("Ready", reason="TargetMet"), "the end")
    assert world.created_jobs() == 1


def test_a_message_of_a_thousand_trees_is_kept_whole(world: World) -> None:
    found = RunReport.model_validate_json(report()).model_copy(update={"message": "🌳" * 600})
    world.prunejob()
    world.finish(message=found.to_termination_message())
    world.until(lambda: world.holds("Ready"), "the end")
    assert world.condition("Ready")[2] == "🌳" * 600
    assert world.created_jobs() == 1


def test_a_pod_that_ended_without_a_container_status(world: World) -> None:
    world.prunejob()
    world.runs["default"] = {"phase": "Succeeded"}
    world.until(lambda: any(item["type"] == "Complete" for job in world.jobs()
                            for item in job.get("status", {}).get("conditions", [])), "the Job's end")  # fmt: skip
    # The report may still be on its way: it is waited for.
    world.until(lambda: world.condition("Reconciling")[0] == "True", "patience")
    (pod,) = world.items("pods")
    world.edit("pods", pod["metadata"]["name"], "status", status=ended(0, report()))
    world.until(lambda: world.holds("Ready"), "the end")
    assert world.created_jobs() == 1


def test_a_job_that_failed_for_a_reason_nobody_knows(world: World) -> None:
    world.prunejob(run__backoffLimit=0)
    world.finish(exit_code=7, message="")
    world.until(lambda: world.holds("Stalled"), "the verdict")
    assert world.condition("Stalled")[1] == "BackoffLimitExceeded"
    assert "7" in world.condition("Stalled")[2]
    assert world.created_jobs() == 1


def test_refused_input_ends_the_run_in_its_own_words(world: World) -> None:
    refusal = RunReport(outcome=Outcome.INPUT_REFUSED, message="spec.model.uri: there is no such bundle")
    assert end_with(world, 4, refusal.to_termination_message()) == (
        "InputRefused", "spec.model.uri: there is no such bundle",
    )  # fmt: skip


def test_a_pod_that_fails_once_is_tried_again_by_its_job(world: World) -> None:
    world.prunejob(run__backoffLimit=2)
    world.finish(exit_code=137, message="")
    world.until(lambda: world.items("pods") and world.items("pods")[0]["status"].get("phase") == "Failed", "a failure")
    world.finish()
    world.until(lambda: world.holds("Ready"), "the end", seconds=90)
    assert len(world.items("pods")) == 2
    assert world.created_jobs() == 1
