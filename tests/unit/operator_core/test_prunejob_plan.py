"""What the operator decides about a PruneJob: values in, values out, no cluster."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coppice_api.base import Provenance
from coppice_api.constants import ENV_RUN_CONFIG, Reason
from coppice_api.run import Outcome, Phase, Progress, RunConfig
from coppice_operator.plan import ApplyObject, CreateObject, Plan
from coppice_operator.prunejob.manifest import job_manifest, job_name, label_value, rollout_manifest
from coppice_operator.prunejob.report import read_report
from tests.builders import DIGEST
from tests.unit.operator_core.world import ROLLOUT, Json, World, met, parsed, report, settled, stored


def test_a_new_prunejob_gets_its_job_and_its_status_at_once() -> None:
    world = World()
    decided = world.step()
    assert [type(action) for action in decided.actions] == [CreateObject]
    # One write less: the status names the Job.
    assert [(event.reason, event.written) for event in decided.events] == [("JobCreated", False)]
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
    # What is new within ten seconds of the last write waits for the next.
    world.progress["default"] = world.progress["default"].model_copy(update={"iteration": 3})
    held = world.plan()
    assert held.status == world.prunejob["status"]
    assert held.requeue_after_seconds is not None
    world.now += timedelta(seconds=held.requeue_after_seconds)
    world.step()
    assert world.variant["iteration"] == 3
    settled(world)


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
        "provenance": "Measured", "sha256": DIGEST, "energyReductionPercent": "65.43",
        "energyReductionLowPercent": "60.00", "energyReductionHighPercent": "70.00", "accuracyPercent": "99.00",
        "denseAccuracyPercent": "99.00",
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


def test_a_rollout_takes_the_nodes_its_models_were_made_for() -> None:
    world = met(**ROLLOUT, hardware=[{"name": "default", "nodeSelector": {"nvidia.com/gpu.product": "H100"}}])
    (rollout,) = world.rollouts.values()
    assert rollout["spec"]["models"][0]["nodeSelector"] == {"nvidia.com/gpu.product": "H100"}


def test_a_rollout_of_an_earlier_version_whose_models_say_less_is_left_alone() -> None:
    world = met(**ROLLOUT)
    (rollout,) = world.rollouts.values()
    # spec.models cannot be changed.
    del rollout["spec"]["models"][0]["claim"]["sha256"]
    assert world.step().actions == ()
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
        run__imagePullSecrets=["registry"], run__priorityClassName="batch", run__runtimeClassName="nvidia",
        run__backoffLimit=2, run__ttlSecondsAfterFinished=600,
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
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert (pod["priorityClassName"], pod["runtimeClassName"]) == ("batch", "nvidia")
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
    assert (job["spec"]["backoffLimit"], job["spec"]["ttlSecondsAfterFinished"]) == (2, 600)
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
