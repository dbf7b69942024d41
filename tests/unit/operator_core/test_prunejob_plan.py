"""What the operator decides about a PruneJob: values in, values out, no cluster."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coppice_api.base import Provenance
from coppice_api.constants import ENV_RUN_CONFIG, Reason
from coppice_api.prunejob import PruneJob
from coppice_api.run import ModelFigures, Outcome, Phase, Progress, ReportedArtifact, RunConfig, RunReport
from coppice_operator.plan import ApplyObject, CreateObject, PatchObject, Plan
from coppice_operator.prunejob.manifest import job_manifest, job_name, label_value, rollout_manifest
from coppice_operator.prunejob.observation import PruneJobObservation
from coppice_operator.prunejob.plan import plan
from coppice_operator.prunejob.report import read_report
from tests.builders import DIGEST, prune_job

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Json = dict[str, Any]
ROLLOUT = {"rollout__targets": [{"name": "digits-a"}]}
FIGURES = ModelFigures(accuracy_ratio=0.99, energy_joules=2.0, power_watts=4.0, latency_seconds=0.02, memory_bytes=1000)


def stored(name: str = "digits", **values: Any) -> Json:
    document = prune_job(**values)
    document["metadata"] = {
        "name": name, "namespace": "default", "uid": "u-1", "generation": 1, "resourceVersion": "7",
    }  # fmt: skip
    return document


def parsed(document: Json) -> PruneJob:
    return PruneJob.model_validate(document)


class World:
    """A PruneJob and its children; `step` does what an operator does with a plan."""

    def __init__(self, **values: Any) -> None:
        self.prunejob = stored(**values)
        self.jobs: dict[str, Json] = {}
        self.pods: list[Json] = []
        self.rollouts: dict[str, Json] = {}
        self.progress: dict[str, Progress] = {}
        self.now = NOW

    def plan(self) -> Plan:
        return plan(
            PruneJobObservation(
                prunejob=self.prunejob, jobs=self.jobs, pods=tuple(self.pods), progress=self.progress,
                rollouts=self.rollouts, default_image="coppice:test",
            ),
            self.now,
        )  # fmt: skip

    def step(self) -> Plan:
        decided = self.plan()
        if decided.status is not None:
            self.prunejob["status"] = decided.status
        for action in decided.actions:
            if isinstance(action, CreateObject | ApplyObject):
                manifest = {**action.manifest, "status": {}}
                manifest["metadata"] = {**manifest["metadata"], "uid": f"u-{manifest['metadata']['name']}",
                                        "generation": 1}  # fmt: skip
                place = self.jobs if manifest["kind"] == "Job" else self.rollouts
                place[manifest["metadata"]["name"]] = manifest
            elif isinstance(action, PatchObject):
                self.jobs[action.name]["spec"] |= action.patch["spec"]
        return decided

    @property
    def job(self) -> Json:
        (only,) = self.jobs.values()
        return only

    def end_job(self, kind: str = "Complete", reason: str = "", *, seconds_ago: float = 0) -> None:
        moment = (self.now - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for job in self.jobs.values():
            job["status"] = {
                "conditions": [{"type": kind, "status": "True", "reason": reason, "lastTransitionTime": moment}]
            }

    def add_pod(self, phase: str = "Running", hardware: str = "default", **status: Any) -> None:
        name = next(
            job for job in self.jobs if self.jobs[job]["metadata"]["labels"]["coppice.dev/hardware"] == hardware
        )
        self.pods.append(
            {
                "metadata": {
                    "name": f"{name}-{len(self.pods)}", "namespace": "default",
                    "creationTimestamp": f"2026-01-02T03:04:{len(self.pods):02d}Z",
                    "labels": {"batch.kubernetes.io/job-name": name, "coppice.dev/hardware": hardware},
                },
                "spec": {"nodeName": "gpu-7"},
                "status": {"phase": phase, **status},
            }
        )  # fmt: skip

    def end_pod(self, code: int, message: str, hardware: str = "default") -> None:
        state = {"terminated": {"exitCode": code, "message": message}}
        phase = "Failed" if code else "Succeeded"
        self.add_pod(phase, hardware, containerStatuses=[{"name": "run", "state": state}])

    def condition(self, kind: str) -> tuple[str, str]:
        found = {item["type"]: item for item in self.prunejob["status"]["conditions"]}
        return found[kind]["status"], found[kind]["reason"]

    @property
    def variant(self) -> Json:
        return dict(self.prunejob["status"]["variants"][0])


def report(outcome: Outcome = Outcome.TARGET_MET, *, artifact: bool = True, message: str = "well done") -> str:
    return RunReport(
        outcome=outcome, message=message, dense=FIGURES, pruned=FIGURES, energy_reduction_ratio=0.654321,
        energy_reduction_interval=(0.6, 0.7), latency_speedup_ratio=2.5, provenance=Provenance.MEASURED,
        artifact=ReportedArtifact(uri="pvc://fleet-models/runs/m", sha256=DIGEST) if artifact else None,
    ).to_termination_message()  # fmt: skip


def met(**values: Any) -> World:
    world = World(**values)
    world.step()
    world.end_pod(0, report())
    world.end_job()
    world.step()
    return world


def settled(world: World) -> None:
    """The next pass over the same world changes nothing."""
    again = world.plan()
    assert again.status == world.prunejob["status"]
    assert again.actions == ()
    assert again.events == ()


def test_a_new_prunejob_gets_its_job_and_its_status_at_once() -> None:
    world = World()
    decided = world.step()
    assert [type(action) for action in decided.actions] == [CreateObject]
    assert [event.reason for event in decided.events] == ["JobCreated"]
    assert world.prunejob["status"]["observedGeneration"] == 1
    assert world.condition("Ready") == ("False", Reason.STARTING)
    assert world.condition("Reconciling") == ("True", Reason.STARTING)
    assert world.condition("TargetMet") == ("Unknown", Reason.STARTING)
    settled(world)


def test_progress_is_told_in_steps() -> None:
    world = World()
    world.step()
    world.add_pod()
    decided = world.step()
    assert [event.reason for event in decided.events] == ["Running"]
    assert "runs on node gpu-7" in decided.events[0].message
    world.progress["default"] = Progress(
        phase=Phase.PRUNING, iteration=2, progress_ratio=0.42, dense_accuracy_ratio=0.99, accuracy_ratio=0.985,
        energy_reduction_ratio=0.31, provenance=Provenance.ESTIMATED, message="Step 3",
    )  # fmt: skip
    world.step()
    assert world.condition("Ready") == ("False", Reason.RUNNING)
    assert world.variant["progressPercent"] == 40
    assert world.variant["energyReductionPercent"] == "31.00"
    settled(world)
    # A percent more and another phase are not worth a write.
    world.progress["default"] = world.progress["default"].model_copy(
        update={"progress_ratio": 0.44, "phase": Phase.FINE_TUNING, "message": "Step 3: fine-tuning"}
    )
    settled(world)
    world.progress["default"] = world.progress["default"].model_copy(update={"iteration": 3})
    assert world.plan().status != world.prunejob["status"]


def test_a_met_target_without_a_rollout_is_ready() -> None:
    world = met()
    assert world.condition("Ready") == ("True", Reason.TARGET_MET)
    assert world.condition("TargetMet") == ("True", Reason.TARGET_MET)
    assert "RolledOut" not in {item["type"] for item in world.prunejob["status"]["conditions"]}
    assert world.variant["energyReductionPercent"] == "65.43"
    assert world.variant["latencySpeedup"] == "2.50"
    assert world.variant["artifact"]["sha256"] == DIGEST
    settled(world)


def test_a_finished_run_stays_finished_when_its_job_is_gone() -> None:
    world = met()
    world.jobs.clear()
    world.pods.clear()
    settled(world)


def test_a_met_target_makes_a_rollout_and_waits_for_it() -> None:
    world = met(**ROLLOUT)
    assert list(world.rollouts) == [f"digits-{DIGEST[:10]}"]
    (rollout,) = world.rollouts.values()
    assert rollout["spec"]["models"][0]["claim"] == {
        "provenance": "Measured", "energyReductionPercent": "65.43", "energyReductionLowPercent": "60.00",
        "energyReductionHighPercent": "70.00", "accuracyPercent": "99.00", "denseAccuracyPercent": "99.00",
    }  # fmt: skip
    assert rollout["spec"]["minimumProvenance"] == "Measured"
    world.step()
    assert world.condition("Ready") == ("False", Reason.ROLLING_OUT)
    settled(world)
    rollout["status"] = rollout_status("Ready", "RolledOut", "all serve it")
    decided = world.step()
    assert [event.reason for event in decided.events] == ["RolledOut"]
    assert world.condition("Ready") == ("True", Reason.ROLLED_OUT)
    assert world.condition("RolledOut") == ("True", Reason.ROLLED_OUT)
    settled(world)


def rollout_status(kind: str, reason: str, message: str, generation: int = 1) -> Json:
    def condition(name: str) -> Json:
        return {"type": name, "status": str(name == kind), "reason": reason, "message": message}

    return {"observedGeneration": generation, "conditions": [condition(name) for name in ("Ready", "Stalled")]}


def test_a_rollout_that_went_back_stalls_the_prunejob_with_its_reason() -> None:
    world = met(**ROLLOUT)
    (rollout,) = world.rollouts.values()
    rollout["status"] = rollout_status("Stalled", "RolledBack", "energy rose")
    decided = world.step()
    assert world.condition("Stalled") == ("True", Reason.ROLLED_BACK)
    assert world.condition("TargetMet") == ("True", Reason.TARGET_MET)
    assert decided.events[0].message.endswith("energy rose")
    settled(world)


def test_a_ready_that_speaks_of_an_older_spec_does_not_count() -> None:
    world = met(**ROLLOUT)
    (rollout,) = world.rollouts.values()
    rollout["metadata"]["generation"] = 2
    rollout["status"] = rollout_status("Ready", "RolledOut", "done", generation=1)
    world.step()
    assert world.condition("Ready")[0] == "False"


def test_an_edited_template_reaches_the_rollout() -> None:
    world = met(**ROLLOUT)
    world.step()
    world.prunejob["spec"]["rollout"]["paused"] = True
    world.prunejob["metadata"]["generation"] = 2
    (action,) = world.step().actions
    assert isinstance(action, ApplyObject)
    assert action.manifest["spec"]["paused"] is True
    settled(world)


def test_a_rollout_of_somebody_else_under_our_name_is_left_alone() -> None:
    world = met(**ROLLOUT)
    (rollout,) = world.rollouts.values()
    rollout["metadata"]["ownerReferences"] = []
    decided = world.step()
    assert decided.actions == ()
    assert world.condition("Stalled") == ("True", Reason.TARGET_CLAIMED)


def test_a_missed_target_is_stalled_and_keeps_its_model() -> None:
    world = World(**ROLLOUT)
    world.step()
    world.end_pod(0, report(Outcome.TARGET_NOT_MET))
    world.end_job()
    decided = world.step()
    assert decided.actions == ()
    assert world.condition("Stalled") == ("True", Reason.TARGET_NOT_MET)
    assert world.condition("TargetMet") == ("False", Reason.TARGET_NOT_MET)
    assert world.condition("RolledOut")[0] == "False"
    assert world.variant["artifact"]["sha256"] == DIGEST
    settled(world)


@pytest.mark.parametrize(
    ("code", "message", "job_reason", "want", "said"),
    [
        (4, report(Outcome.INPUT_REFUSED, artifact=False, message="bad uri"), "PodFailurePolicy",
         Reason.INPUT_REFUSED, "bad uri"),
        (5, report(Outcome.MEASUREMENT_IMPOSSIBLE, artifact=False, message="no meter"), "PodFailurePolicy",
         Reason.MEASUREMENT_IMPOSSIBLE, "no meter"),
        (1, report(Outcome.FAILED, artifact=False, message="disk full"), "BackoffLimitExceeded",
         Reason.RUN_FAILED, "disk full"),
        (137, "", "BackoffLimitExceeded", Reason.RUN_FAILED, "ended with 137"),
        (1, "", "DeadlineExceeded", Reason.DEADLINE_EXCEEDED, "activeDeadlineSeconds"),
    ],
    ids=["refused", "unmeasurable", "failed", "killed", "deadline"],
)  # fmt: skip
def test_a_failed_job_is_told_by_its_exit_code(
    code: int, message: str, job_reason: str, want: Reason, said: str
) -> None:
    world = World()
    world.step()
    world.end_pod(code, message)
    world.end_job("Failed", job_reason)
    world.step()
    assert world.condition("Stalled") == ("True", want)
    assert said in world.variant["message"]
    settled(world)
    # Also when nothing is left to look at.
    world.jobs.clear()
    world.pods.clear()
    settled(world)


def test_a_jobs_end_may_show_before_its_pods() -> None:
    world = World()
    world.step()
    world.end_job()
    decided = world.step()
    assert decided.requeue_after_seconds == 1.0
    assert world.condition("Stalled")[0] != "True"
    world.end_pod(0, report())
    world.step()
    assert world.condition("Ready") == ("True", Reason.TARGET_MET)


@pytest.mark.parametrize("message", ["", "not json", "{}", '{"outcome": "Failed"}'])
def test_a_success_without_a_report_is_said(message: str) -> None:
    world = World()
    world.step()
    world.end_pod(0, message)
    world.end_job(seconds_ago=60)
    world.step()
    assert world.condition("Stalled") == ("True", Reason.REPORT_UNREADABLE)


def test_a_success_whose_pod_is_gone_is_said_after_a_while() -> None:
    world = World()
    world.step()
    world.end_job(seconds_ago=60)
    world.step()
    assert world.condition("Stalled") == ("True", Reason.REPORT_UNREADABLE)


@pytest.mark.parametrize("reason", ["ErrImagePull", "CreateContainerConfigError"])
def test_a_pod_that_cannot_start_is_said_and_not_final(reason: str) -> None:
    world = World()
    world.step()
    waiting = {"waiting": {"reason": reason, "message": "secret s not found"}}
    world.add_pod("Pending", containerStatuses=[{"name": "run", "state": waiting}])
    decided = world.step()
    assert world.condition("Ready") == ("False", Reason.POD_CANNOT_START)
    assert world.condition("Reconciling")[0] == "True"
    assert f"{reason}: secret s not found" in world.variant["message"]
    assert [event.reason for event in decided.events] == [Reason.POD_CANNOT_START]
    settled(world)


def test_suspend_and_resume() -> None:
    world = World(suspend=True)
    assert world.step().actions == ()
    assert world.condition("Ready") == ("False", Reason.SUSPENDED)
    world.prunejob["spec"]["suspend"] = False
    world.step()
    assert not world.job["spec"]["suspend"]
    world.prunejob["spec"]["suspend"] = True
    decided = world.step()
    assert [event.reason for event in decided.events] == [Reason.SUSPENDED]
    assert world.job["spec"]["suspend"] is True
    settled(world)
    world.prunejob["spec"]["suspend"] = False
    world.step()
    assert world.job["spec"]["suspend"] is False


def test_a_queued_job_is_left_to_its_queue() -> None:
    world = World(run__queueName="gpus")
    world.step()
    assert world.job["spec"]["suspend"] is True
    assert world.job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    settled(world)
    assert "queue gpus" in world.variant["message"]


def test_every_class_of_hardware_has_to_meet_the_target() -> None:
    world = World(hardware=[{"name": "a100"}, {"name": "h100"}], **ROLLOUT)
    world.step()
    assert len(world.jobs) == 2
    world.end_pod(0, report(), "a100")
    for job in world.jobs.values():
        if job["metadata"]["labels"]["coppice.dev/hardware"] == "a100":
            job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    world.step()
    assert world.condition("TargetMet")[0] == "Unknown"
    assert world.rollouts == {}
    world.end_pod(0, report(Outcome.TARGET_NOT_MET), "h100")
    world.end_job()
    world.step()
    assert world.condition("TargetMet") == ("False", Reason.TARGET_NOT_MET)
    assert world.rollouts == {}
    assert [item["state"] for item in world.prunejob["status"]["variants"]] == ["TargetMet", "TargetNotMet"]


@pytest.mark.parametrize(
    ("values", "said"),
    [({"hardware": [{"name": "a", "nodes": 2}]}, "nodes is 2")],
    ids=["nodes"],
)
def test_what_this_version_cannot_do_is_said_and_nothing_is_started(values: Json, said: str) -> None:
    world = World(**values)
    decided = world.step()
    assert decided.actions == ()
    assert world.condition("Stalled") == ("True", Reason.UNSUPPORTED)
    assert said in decided.events[0].message
    settled(world)


def test_a_spec_that_cannot_be_read_is_said() -> None:
    world = World()
    world.prunejob["spec"]["objective"]["energyReductionPercent"] = 400
    decided = world.step()
    assert decided.actions == ()
    assert world.condition("Stalled") == ("True", Reason.UNSUPPORTED)
    settled(world)


def test_a_prunejob_on_its_way_out_is_left_alone() -> None:
    world = World()
    world.prunejob["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    assert world.plan() == Plan()


def test_conditions_keep_their_time_while_their_status_stays() -> None:
    world = World()
    world.step()
    before = {item["type"]: item["lastTransitionTime"] for item in world.prunejob["status"]["conditions"]}
    world.now += timedelta(minutes=5)
    world.end_pod(0, report())
    world.end_job()
    world.step()
    after = {item["type"]: item["lastTransitionTime"] for item in world.prunejob["status"]["conditions"]}
    assert after["Stalled"] == before["Stalled"]
    assert after["Ready"] != before["Ready"]


def test_the_job_is_restricted_and_carries_the_whole_contract() -> None:
    document = stored(
        run__credentialsSecretName="s3", run__activeDeadlineSeconds=60, run__image="image:1",
        output__uri="pvc://results/runs", hardware=[
            {"name": "a100", "nodeSelector": {"gpu": "a100"}, "tolerations": [{"key": "gpu", "operator": "Exists"}],
             "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
    )  # fmt: skip
    prunejob = parsed(document)
    job = job_manifest(prunejob, prunejob.spec.hardware[0], default_image="default:1")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "image:1"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert pod["nodeSelector"] == {"gpu": "a100"}
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "emptyDir" not in volume]
    assert claims == ["fleet-models", "results"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    environment = {item["name"]: item.get("value") for item in container["env"]}
    config = RunConfig.model_validate_json(environment[ENV_RUN_CONFIG] or "")
    assert set(config.claim_mounts.values()) <= mounted
    assert config.work_directory in mounted
    assert config.hardware == "a100"
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert rules[1]["onExitCodes"]["values"] == [4, 5]
    assert job["spec"]["activeDeadlineSeconds"] == 60
    json.dumps(job)


def test_quantization_is_asked_of_the_pod() -> None:
    prunejob = parsed(stored(algorithm__quantization="Int8"))
    assert (
        contract(job_manifest(prunejob, prunejob.spec.hardware[0], default_image="i")).algorithm.quantization == "Int8"
    )


def contract(job: Json) -> RunConfig:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return RunConfig.model_validate_json(
        next(item["value"] for item in container["env"] if item["name"] == ENV_RUN_CONFIG)
    )


def test_names_are_deterministic_and_fit() -> None:
    for name in ("digits", "a.b.c", "x" * 253):
        prunejob = parsed(stored(name, hardware=[{"name": "h" * 30}]))
        first = job_name(prunejob, prunejob.spec.hardware[0])
        assert first == job_name(prunejob, prunejob.spec.hardware[0])
        assert len(first) <= 63
        assert "." not in first
        assert len(label_value(name)) <= 63
    other = stored("digits")
    other["metadata"]["uid"] = "u-2"
    mine = parsed(stored("digits"))
    hardware = mine.spec.hardware[0]
    # Deleted and made again: another run.
    assert job_name(parsed(other), hardware) != job_name(mine, hardware)
    assert label_value("x" * 253) != label_value("x" * 252)


def test_the_rollout_carries_the_template() -> None:
    world = met(**ROLLOUT, rollout__onFailure="Hold", measurement__minimumProvenance="Estimated")
    prunejob = parsed(world.prunejob)
    assert prunejob.status is not None
    manifest = rollout_manifest(prunejob, prunejob.status.variants)
    assert manifest["spec"]["onFailure"] == "Hold"
    assert manifest["spec"]["minimumProvenance"] == "Estimated"
    assert manifest["metadata"]["ownerReferences"][0]["uid"] == "u-1"


@given(st.text())
def test_no_termination_message_breaks_the_operator(text: str) -> None:
    read_report(text)
