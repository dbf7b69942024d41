"""Every way a run can fail to start, to go on or to end: its own reason, an Event, and a sentence to act on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from coppice_api.base import Provenance
from coppice_api.constants import MAX_REPORT_BYTES, Reason
from coppice_api.run import Outcome, Progress, RunReport
from coppice_operator.plan import CreateObject
from coppice_operator.prunejob.observation import Refusal
from tests.unit.operator_core.world import ROLLOUT, Json, World, met, report, settled

GPU = {"name": "h100", "nodeSelector": {"nvidia.com/gpu.product": "H100"},
       "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "16Gi"}}}  # fmt: skip
ELSEWHERE = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "by a/b"}


def refusal(outcome: Outcome, message: str, **values: Any) -> str:
    return RunReport(outcome=outcome, message=message, **values).to_termination_message()


def waiting(reason: str, message: str = "") -> Json:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "run", "image": "coppice:test", "state": state}]}


def unscheduled(message: str, reason: str = "Unschedulable") -> Json:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]}


def not_ready(world: World) -> None:
    """A tool that waits for kstatus' Ready must go on waiting, or see that waiting is in vain."""
    flags = {kind: world.condition(kind)[0] for kind in ("Ready", "Reconciling", "Stalled")}
    assert flags["Ready"] == "False"
    assert sorted((flags["Reconciling"], flags["Stalled"])) == ["False", "True"]
    assert world.prunejob["status"]["observedGeneration"] == world.prunejob["metadata"]["generation"]


@pytest.mark.parametrize(
    ("status", "want", "said"),
    [
        (waiting("ErrImagePull", "registry says no"), Reason.IMAGE_NOT_PULLED, "run.imagePullSecrets"),
        (waiting("InvalidImageName", "bad name"), Reason.IMAGE_NOT_PULLED, "bad name"),
        (waiting("CreateContainerConfigError", "no secret s"), Reason.POD_CANNOT_START, "no secret s"),
        (waiting("StartError", "no such file"), Reason.POD_CANNOT_START, "no such file"),
        (unscheduled("0/4 nodes are available: 4 Insufficient nvidia.com/gpu."), Reason.UNSCHEDULABLE,
         "nvidia.com/gpu.product=H100, 1 nvidia.com/gpu, 16Gi memory): 0/4 nodes"),
        (unscheduled("not yet", "SchedulingGated"), Reason.POD_CANNOT_START, "SchedulingGated"),
    ],
    ids=["image", "image-name", "secret", "command", "no-such-gpu", "gated"],
)  # fmt: skip
def test_what_keeps_a_pod_from_starting_is_said_once_and_is_not_final(status: Json, want: Reason, said: str) -> None:
    world = World(hardware=[GPU])
    world.step()
    world.add_pod("Pending", "h100", **status)
    decided = world.step()
    assert world.condition("Ready") == ("False", want)
    assert world.condition("Reconciling")[0] == "True"
    not_ready(world)
    assert said in world.message("Ready")
    assert world.variant["reason"] == want
    assert [(event.type, event.reason) for event in decided.events] == [("Warning", want)]
    settled(world)
    # It starts after all.
    world.pods.clear()
    world.add_pod("Running", "h100")
    world.progress["h100"] = Progress(iteration=1, progress_ratio=0.3)
    world.step()
    assert world.condition("Ready") == ("False", Reason.RUNNING)


def test_a_registry_that_is_asked_again_and_again_costs_one_write() -> None:
    world = World()
    world.step()
    world.add_pod("Pending", **waiting("ErrImagePull", "manifest unknown"))
    world.step()
    for reason in ("ImagePullBackOff", "ErrImagePull") * 3:
        world.pods[0]["status"] |= waiting(reason, "manifest unknown" if reason == "ErrImagePull" else "Back-off")
        world.now += timedelta(minutes=5)
        settled(world)
    assert "manifest unknown" in world.message("Ready")


def test_another_word_of_the_scheduler_is_written_once_a_minute() -> None:
    world = World()
    world.step()
    world.add_pod("Pending", **unscheduled("0/1 nodes"))
    world.step()
    world.pods[0]["status"] |= unscheduled("0/2 nodes")
    world.now += timedelta(seconds=30)
    again = world.plan()
    assert again.status == world.prunejob["status"]
    assert again.requeue_after_seconds == pytest.approx(31)
    world.now += timedelta(seconds=31)
    decided = world.step()
    assert "0/2 nodes" in world.message("Ready")
    assert decided.events == ()


@pytest.mark.parametrize(
    ("pod", "job_reason", "want", "said"),
    [
        ({"code": 4, "message": refusal(Outcome.INPUT_REFUSED, "model.uri: no such bundle")}, "PodFailurePolicy",
         Reason.INPUT_REFUSED, "model.uri: no such bundle"),
        ({"code": 4, "message": ""}, "PodFailurePolicy", Reason.INPUT_REFUSED, "kubectl logs job/"),
        ({"code": 5, "message": refusal(Outcome.MEASUREMENT_IMPOSSIBLE, "NVML: no permission")}, "PodFailurePolicy",
         Reason.MEASUREMENT_IMPOSSIBLE, "NVML: no permission"),
        ({"code": 5, "message": refusal(Outcome.MEASUREMENT_IMPOSSIBLE, "only an estimate",
                                        provenance=Provenance.ESTIMATED)}, "PodFailurePolicy",
         Reason.PROVENANCE_TOO_LOW, "only an estimate"),
        ({"code": 1, "message": refusal(Outcome.FAILED, "disk full")}, "BackoffLimitExceeded",
         Reason.BACKOFF_LIMIT_EXCEEDED, "run.backoffLimit (3) allows; the last pod ended with 1: disk full"),
        ({"code": 1, "message": ""}, "BackoffLimitExceeded", Reason.BACKOFF_LIMIT_EXCEEDED, "kubectl logs job/"),
        ({"code": 137, "message": "", "reason": "OOMKilled"}, "BackoffLimitExceeded", Reason.OUT_OF_MEMORY,
         "memory limit (16Gi)"),
        ({"code": 143, "message": "", "conditions": [ELSEWHERE]}, "BackoffLimitExceeded", Reason.EVICTED,
         "PreemptionByScheduler: by a/b"),
        ({"code": 1, "message": ""}, "DeadlineExceeded", Reason.DEADLINE_EXCEEDED, "run.activeDeadlineSeconds (60 s)"),
        ({"code": 3, "message": "odd"}, "SomethingNew", Reason.RUN_FAILED, "(SomethingNew), the last pod ended with 3"),
    ],
    ids=["refused", "refused-silently", "unmeasurable", "provenance", "retries", "retries-silently", "memory",
         "preempted", "deadline", "unknown"],
)  # fmt: skip
def test_a_failed_job_is_told_by_what_its_last_pod_left(pod: Json, job_reason: str, want: Reason, said: str) -> None:
    world = World(hardware=[GPU], run__activeDeadlineSeconds=60, **ROLLOUT)
    world.step()
    world.end_pod(hardware="h100", **pod)
    world.end_job("Failed", job_reason)
    decided = world.step()
    assert world.condition("Stalled") == ("True", want)
    assert world.condition("TargetMet") == ("False", want)
    not_ready(world)
    assert said in world.message("Stalled")
    assert world.variant["reason"] == want
    assert [(event.type, event.reason) for event in decided.events] == [("Warning", want)]
    settled(world)
    # Also when nothing is left to look at.
    world.jobs.clear()
    world.pods.clear()
    settled(world)
    assert world.rollouts == {}


def test_an_evicted_pod_without_a_container_is_told_by_the_kubelets_word() -> None:
    world = World()
    world.step()
    world.add_pod("Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage.")
    decided = world.step()
    assert world.condition("Ready") == ("False", Reason.EVICTED)
    assert world.condition("Reconciling")[0] == "True"
    assert "ephemeral-storage" in world.message("Ready")
    assert [event.reason for event in decided.events] == [Reason.EVICTED]
    settled(world)
    world.add_pod()
    world.progress["default"] = Progress(progress_ratio=0.1, iteration=1)
    world.step()
    assert world.condition("Ready") == ("False", Reason.RUNNING)


def test_a_pod_killed_for_memory_is_said_while_the_next_one_starts() -> None:
    world = World()
    world.step()
    world.end_pod(137, "", reason="OOMKilled")
    world.step()
    assert world.condition("Ready") == ("False", Reason.OUT_OF_MEMORY)
    assert "the node's memory" in world.message("Ready")


@pytest.mark.parametrize(
    ("text", "want", "said"),
    [
        ("", Reason.REPORT_UNREADABLE, "there is none"),
        ("not json", Reason.REPORT_UNREADABLE, "'not json'"),
        ("{}", Reason.REPORT_UNREADABLE, "'{}'"),
        ('{"outcome": "Failed"}', Reason.REPORT_UNREADABLE, "Failed"),
        (report(message="x" * 1024).ljust(MAX_REPORT_BYTES + 100)[:MAX_REPORT_BYTES - 1] + "é", Reason.REPORT_TOO_LONG,
         "report.json under output.uri"),
        ('{"outcome": "TargetMet", "message": "' + "ü" * MAX_REPORT_BYTES, Reason.REPORT_TOO_LONG, "4096 bytes"),
    ],
    ids=["none", "not-json", "empty", "failed", "cut", "cut-unicode"],
)  # fmt: skip
def test_a_success_without_a_whole_report_is_no_success(text: str, want: Reason, said: str) -> None:
    world = World()
    world.step()
    world.end_pod(0, text)
    world.end_job(seconds_ago=60)
    world.step()
    assert world.condition("Stalled") == ("True", want)
    assert said in world.message("Stalled")
    not_ready(world)
    settled(world)


def test_a_target_met_by_an_estimate_where_a_measurement_was_asked_for_rolls_nothing_out() -> None:
    world = World(**ROLLOUT)
    world.step()
    estimated = RunReport.model_validate_json(report()).model_copy(update={"provenance": Provenance.ESTIMATED})
    world.end_pod(0, estimated.to_termination_message())
    world.end_job()
    world.step()
    assert world.condition("Stalled") == ("True", Reason.PROVENANCE_TOO_LOW)
    assert world.rollouts == {}
    assert world.variant["artifact"]["uri"].endswith("/m")
    settled(world)


def test_a_pod_that_stops_answering_is_said_until_it_answers_again() -> None:
    world = World()
    world.step()
    world.add_pod()
    world.progress["default"] = Progress(iteration=1, progress_ratio=0.3, message="Step 2")
    world.step()
    world.silent_since["default"] = world.now
    decided = world.step()
    assert world.condition("Ready") == ("False", Reason.POD_NOT_ANSWERING)
    assert [(event.type, event.reason) for event in decided.events] == [("Warning", Reason.POD_NOT_ANSWERING)]
    assert "has not answered since 2026-01-02T03:04:05Z" in world.message("Ready")
    assert world.variant["progressPercent"] == 30
    settled(world)
    # An operator that has just begun knows neither: it leaves what is said.
    world.progress.clear()
    world.silent_since.clear()
    settled(world)
    world.progress["default"] = Progress(iteration=1, progress_ratio=0.3, message="Step 2")
    world.step()
    assert world.condition("Ready") == ("False", Reason.RUNNING)
    settled(world)


def test_a_job_that_the_api_server_does_not_take_is_said_and_asked_for_when_it_is_due() -> None:
    world = World(hardware=[{"name": "h100", "nodes": 2}, {"name": "l4"}])
    names = [action.manifest["metadata"]["name"] for action in world.plan().actions if isinstance(action, CreateObject)]
    (service, job) = names[:2]
    world.refused = dict.fromkeys((service, job), Refusal("the API server does not take it: exceeded quota", 8.0))
    decided = world.step()
    assert world.condition("Ready") == ("False", Reason.CHILD_REFUSED)
    assert "exceeded quota" in world.message("Ready")
    not_ready(world)
    # The other class starts.
    assert [job["metadata"]["labels"]["coppice.dev/hardware"] for job in world.jobs.values()] == ["l4"]
    assert decided.requeue_after_seconds == 8.0
    settled(world)
    world.refused = dict.fromkeys((service, job), Refusal("the API server does not take it: exceeded quota"))
    asked = [action.manifest["metadata"]["name"] for action in world.step().actions if isinstance(action, CreateObject)]
    assert asked == [service, job]
    # Taken.
    world.refused = {}
    world.step()
    assert world.condition("Ready") == ("False", Reason.STARTING)


def test_an_operator_that_begins_again_does_not_take_a_refusal_back_before_it_has_asked() -> None:
    world = World()
    (action,) = world.plan().actions
    assert isinstance(action, CreateObject)
    world.refused = {action.manifest["metadata"]["name"]: Refusal("the API server does not take it: no", 8.0)}
    world.step()
    world.refused = {}
    again = world.plan()
    assert again.status == world.prunejob["status"]
    assert again.actions == (action,)


def test_a_rollout_that_the_api_server_does_not_take_is_said_and_asked_for_when_it_is_due() -> None:
    world = met(**ROLLOUT)
    (name,) = world.rollouts
    world.rollouts.clear()
    world.refused = {name: Refusal("the API server does not take it: no such right", 4.0)}
    decided = world.step()
    assert (decided.actions, decided.requeue_after_seconds) == ((), 4.0)
    assert world.condition("Ready") == ("False", Reason.CHILD_REFUSED)
    assert world.condition("TargetMet") == ("True", Reason.TARGET_MET)
    assert world.condition("RolledOut") == ("False", Reason.CHILD_REFUSED)
    not_ready(world)
    settled(world)
    world.refused = {}
    assert world.plan().status == world.prunejob["status"]
    world.step()
    assert name in world.rollouts
    world.step()
    assert world.condition("Ready") == ("False", Reason.ROLLING_OUT)
