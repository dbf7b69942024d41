"""What becomes of a run whose Job, status or pods go away, that is suspended, or that has several classes."""

from __future__ import annotations

from datetime import timedelta

from coppice_api.constants import Reason
from coppice_api.run import Outcome, Progress
from coppice_operator.plan import CreateObject, DeleteObject
from coppice_operator.prunejob.manifest import MIN_TTL_SECONDS, job_manifest
from tests.unit.operator_core.world import ROLLOUT, World, met, parsed, report, settled, stored


def running(**values: object) -> World:
    world = World(**values)
    world.step()
    world.add_pod()
    world.progress["default"] = Progress(iteration=2, progress_ratio=0.5, message="Step 3")
    world.step()
    return world


def test_a_job_deleted_by_its_ttl_after_the_end_was_seen_is_not_run_again() -> None:
    world = met()
    world.jobs.clear()
    world.pods.clear()
    settled(world)
    world.now += timedelta(days=30)
    settled(world)


def test_a_job_stays_long_enough_for_its_end_to_be_seen() -> None:
    for asked, want in ((0, MIN_TTL_SECONDS), (3600, 3600), (None, None)):
        prunejob = parsed(stored(run__ttlSecondsAfterFinished=asked))
        job = job_manifest(prunejob, prunejob.spec.hardware[0], default_image="i")
        assert job["spec"].get("ttlSecondsAfterFinished") == want


def test_a_job_deleted_mid_run_is_made_again_under_its_name_once_its_pod_is_gone() -> None:
    world = running()
    (name,) = world.jobs
    world.jobs.clear()
    decided = world.step()
    assert decided.actions == ()
    assert "still ends" in world.message("Ready")
    settled(world)
    world.pods.clear()
    world.progress.clear()
    decided = world.step()
    assert [(event.reason, event.written) for event in decided.events] == [("JobCreated", True)]
    assert list(world.jobs) == [name]
    # What was reached is still shown.
    assert world.variant["progressPercent"] == 50
    settled(world)


def test_a_job_that_is_being_deleted_is_waited_for() -> None:
    world = running()
    world.job["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    assert world.step().actions == ()
    assert "is being deleted" in world.message("Ready")
    settled(world)


def test_the_pods_of_a_job_before_do_not_speak_for_the_one_made_again() -> None:
    world = running()
    world.pods.clear()
    world.end_pod(4, report(Outcome.INPUT_REFUSED))
    world.job["metadata"]["uid"] = "u-again"
    world.end_job("Failed", "PodFailurePolicy", seconds_ago=60)
    world.step()
    assert world.condition("Stalled") == ("True", Reason.RUN_FAILED)


def test_a_wiped_status_is_found_again_from_the_job() -> None:
    world = met()
    del world.prunejob["status"]
    assert world.step().actions == ()
    assert world.condition("Ready") == ("True", Reason.TARGET_MET)
    settled(world)


def test_a_wiped_status_without_a_job_asks_the_artifacts_through_a_job_of_the_same_name() -> None:
    world = met()
    (name,) = world.jobs
    world.jobs.clear()
    world.pods.clear()
    del world.prunejob["status"]
    world.step()
    assert list(world.jobs) == [name]
    assert world.condition("Ready") == ("False", Reason.STARTING)


def test_an_entry_of_the_first_version_is_left_as_it_is() -> None:
    world = met()
    del world.prunejob["status"]["variants"][0]["reason"]
    settled(world)


def test_a_suspended_run_keeps_its_progress_and_goes_on() -> None:
    world = running()
    world.prunejob["spec"]["suspend"] = True
    decided = world.step()
    assert [event.reason for event in decided.events] == [Reason.SUSPENDED]
    assert world.job["spec"]["suspend"] is True
    assert world.condition("Ready") == ("False", Reason.SUSPENDED)
    assert world.variant["progressPercent"] == 50
    settled(world)
    world.pods.clear()
    world.progress.clear()
    world.prunejob["spec"]["suspend"] = False
    world.step()
    assert world.job["spec"]["suspend"] is False
    assert world.variant["iteration"] == 2
    settled(world)


def test_a_suspended_run_leaves_its_queue_and_stands_in_line_again() -> None:
    world = running(run__queueName="gpus")
    (name,) = world.jobs
    # Admitted by the queue, which sets this and would set it again.
    world.job["spec"]["suspend"] = False
    world.prunejob["spec"]["suspend"] = True
    decided = world.step()
    assert [type(action) for action in decided.actions] == [DeleteObject]
    assert world.jobs == {}
    world.step()
    assert world.condition("Ready") == ("False", Reason.SUSPENDED)
    settled(world)
    world.pods.clear()
    world.prunejob["spec"]["suspend"] = False
    decided = world.step()
    assert [type(action) for action in decided.actions] == [CreateObject]
    assert world.jobs[name]["spec"]["suspend"] is True
    settled(world)


def test_there_is_one_queue_level_the_job() -> None:
    prunejob = parsed(stored(run__queueName="gpus", **ROLLOUT))
    job = job_manifest(prunejob, prunejob.spec.hardware[0], default_image="i")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    template = job["spec"]["template"]["metadata"]
    assert not [key for key in {**template["labels"], **template["annotations"]} if "kueue" in key]
    world = met(run__queueName="gpus", **ROLLOUT)
    (rollout,) = world.rollouts.values()
    assert not [key for key in rollout["metadata"]["labels"] if "kueue" in key]


def test_a_class_that_failed_holds_the_rollout_and_the_others_results_stand() -> None:
    world = World(hardware=[{"name": "a100"}, {"name": "h100"}, {"name": "l4"}], **ROLLOUT)
    world.step()
    world.end_pod(0, report(), "a100")
    world.end_pod(137, "", "h100", reason="OOMKilled")
    for job in world.jobs.values():
        kind = {"a100": "Complete", "h100": "Failed"}.get(job["metadata"]["labels"]["coppice.dev/hardware"])
        if kind:
            job["status"] = {"conditions": [{"type": kind, "status": "True", "reason": "BackoffLimitExceeded"}]}
    world.step()
    # One still runs: nothing is over, and the target cannot be met on all any more.
    assert world.condition("Reconciling")[0] == "True"
    assert world.condition("TargetMet") == ("False", Reason.OUT_OF_MEMORY)
    assert "held by h100 (OutOfMemory)" in world.message("TargetMet")
    assert "a100: TargetMet, 65.43 % less energy; its result stands; h100: OutOfMemory" in world.message("Ready")
    settled(world)
    world.end_pod(0, report(Outcome.TARGET_NOT_MET, message="only 40 %"), "l4")
    for job in world.jobs.values():
        job.setdefault("status", {"conditions": [{"type": "Complete", "status": "True"}]})
        job["status"] = job["status"] or {"conditions": [{"type": "Complete", "status": "True"}]}
    world.step()
    assert world.condition("Stalled") == ("True", Reason.OUT_OF_MEMORY)
    assert world.message("Stalled").startswith("h100: The run failed more often")
    assert "held by h100 (OutOfMemory), l4 (TargetNotMet)" in world.message("RolledOut")
    states = {item["hardware"]: item["state"] for item in world.prunejob["status"]["variants"]}
    assert states == {"a100": "TargetMet", "h100": "Failed", "l4": "TargetNotMet"}
    assert world.prunejob["status"]["variants"][0]["artifact"]
    assert world.rollouts == {}
    settled(world)


def test_several_classes_share_one_write_of_progress_every_ten_seconds() -> None:
    world = World(hardware=[{"name": "a"}, {"name": "b"}])
    world.step()
    writes = 0
    for second in range(60):
        for name in ("a", "b"):
            if second == 0:
                world.add_pod(hardware=name)
            world.progress[name] = Progress(iteration=second, progress_ratio=second / 60)
        before = world.prunejob["status"]
        world.step()
        writes += world.prunejob["status"] != before
        world.now += timedelta(seconds=1)
    assert 5 <= writes <= 6
    # A clock that is set back holds nothing.
    world.now -= timedelta(days=1)
    world.progress["a"] = Progress(iteration=99, progress_ratio=1)
    world.step()
    assert world.variant["iteration"] == 99
