"""A run on several nodes, as it stands in the cluster."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coppice_api.constants import ENV_LEADER, ENV_NODES, ExitCode, Reason
from coppice_api.run import Outcome, Progress, RunReport
from coppice_operator.plan import CreateObject
from coppice_operator.prunejob.manifest import children, job_name
from coppice_operator.prunejob.report import cause, pods_of
from tests.unit.operator_core.world import World, parsed, report, settled, stored

THREE = {"hardware": [{"name": "default", "nodes": 3}]}


def test_an_indexed_job_and_a_headless_service_that_finds_its_pods() -> None:
    prunejob = parsed(stored(run__backoffLimit=2, **THREE))
    service, job = children(prunejob, prunejob.spec.hardware[0], default_image="i")
    name, spec = job["metadata"]["name"], job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    # A failed try of the run is a failed pod of each node.
    assert spec["backoffLimit"] == 6
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [4, 5]
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert service["metadata"]["ownerReferences"] == job["metadata"]["ownerReferences"]
    variables = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert variables[ENV_NODES] == "3"
    assert variables[ENV_LEADER] == f"{name}-0.{pod['subdomain']}"
    assert pod["containers"][0]["startupProbe"]["httpGet"] == pod["containers"][0]["livenessProbe"]["httpGet"]


@pytest.mark.parametrize("name", ["d", "1st", "x" * 253])
def test_host_names_and_the_services_name_are_dns_labels(name: str) -> None:
    prunejob = parsed(stored(name, hardware=[{"name": "h" * 30, "nodes": 64}]))
    service, job = children(prunejob, prunejob.spec.hardware[0], default_image="i")
    assert len(f"{job['metadata']['name']}-63") <= 63
    assert len(service["metadata"]["name"]) <= 63
    assert service["metadata"]["name"][0].isalpha()


def test_a_run_on_one_node_has_no_service_and_keeps_its_name() -> None:
    prunejob = parsed(stored())
    (job,) = children(prunejob, prunejob.spec.hardware[0], default_image="i")
    assert job["metadata"]["name"] == job_name(prunejob, prunejob.spec.hardware[0])
    assert "completionMode" not in job["spec"]
    assert "subdomain" not in job["spec"]["template"]["spec"]


def test_the_service_is_made_before_the_job_and_the_pod_with_index_0_speaks() -> None:
    world = World(**THREE)
    decided = world.step()
    assert [action.manifest["kind"] for action in decided.actions if isinstance(action, CreateObject)] == [
        "Service", "Job",
    ]  # fmt: skip
    settled(world)
    world.add_pod(index=0)
    world.step()
    assert world.condition("Ready") == ("False", Reason.STARTING)
    assert "1 of 3 pods run" in world.message("Ready")
    world.add_pod(index=1)
    world.add_pod(index=2)
    world.progress["default"] = Progress(iteration=1, progress_ratio=0.5)
    world.step()
    assert world.condition("Ready") == ("False", Reason.RUNNING)
    world.pods.clear()
    for index, message in ((1, ""), (0, report()), (2, "")):
        world.end_pod(0, message, index=index)
    world.end_job()
    world.step()
    assert world.condition("Ready") == ("True", Reason.TARGET_MET)
    settled(world)


def test_pods_that_waited_for_the_last_one_are_not_taken_for_silent() -> None:
    world = World(**THREE)
    world.step()
    for index in range(3):
        world.add_pod(index=index, startTime="2026-01-02T03:04:00Z" if index == 2 else "2026-01-02T01:00:00Z")
    # The first of them has been asked in vain for two hours.
    world.silent_since["default"] = world.now - timedelta(hours=2)
    decided = world.step()
    assert world.condition("Ready") == ("False", Reason.RUNNING)
    assert decided.requeue_after_seconds is not None
    world.now += timedelta(seconds=decided.requeue_after_seconds)
    world.step()
    assert world.condition("Ready") == ("False", Reason.POD_NOT_ANSWERING)
    settled(world)


def test_one_pod_that_fits_no_node_keeps_the_run_from_starting() -> None:
    world = World(**THREE)
    world.step()
    world.add_pod(index=0)
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    world.add_pod("Pending", index=1, conditions=[said])
    world.step()
    assert world.condition("Ready") == ("False", Reason.UNSCHEDULABLE)


def test_a_failure_is_the_pods_that_began_it_not_of_those_that_lost_it() -> None:
    world = World(**THREE)
    world.step()
    lost = RunReport(outcome=Outcome.FAILED, message="connection closed by peer").to_termination_message()
    world.end_pod(1, lost, index=0)
    world.end_pod(137, "", index=2, reason="OOMKilled")
    world.end_pod(1, lost, index=1)
    found = cause(pods_of(world.pods, world.job["metadata"]["name"]), 3)
    assert found is not None
    assert found.out_of_memory
    world.end_job("Failed", "BackoffLimitExceeded")
    world.step()
    assert world.condition("Stalled") == ("True", Reason.OUT_OF_MEMORY)
    settled(world)


def test_a_pod_that_says_another_was_lost_is_not_the_cause_and_is_tried_again() -> None:
    world = World(**THREE)
    world.step()
    never = next(rule for rule in world.job["spec"]["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")
    assert ExitCode.PEER_LOST not in never["onExitCodes"]["values"]
    lost = RunReport(outcome=Outcome.FAILED, message="process 1 of 3 has not been heard of").to_termination_message()
    world.end_pod(ExitCode.PEER_LOST, lost, index=0)
    world.end_pod(1, "disk full", index=1)
    found = cause(pods_of(world.pods, world.job["metadata"]["name"]), 3)
    assert found is not None
    assert found.message == "disk full"


def test_input_that_one_pod_refuses_is_refused() -> None:
    world = World(**THREE)
    world.step()
    world.end_pod(1, "", index=0)
    refused = RunReport(outcome=Outcome.INPUT_REFUSED, message="no such claim here").to_termination_message()
    world.end_pod(4, refused, index=1)
    world.end_job("Failed", "PodFailurePolicy")
    world.step()
    assert world.condition("Stalled") == ("True", Reason.INPUT_REFUSED)
    assert world.message("Stalled") == "no such claim here"
