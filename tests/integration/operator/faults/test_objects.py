"""People and clusters delete, edit and wipe things in the middle of a life and after its end."""

from __future__ import annotations

import pytest

from coppice_operator.prunejob.manifest import label_value
from tests.integration.operator.faults.test_api_server import finish_ready
from tests.integration.operator.faults.world import HARDWARE, World

DIGEST = "coppice.dev/spec-digest"
LIMIT = 256 * 1024
"""The API server takes no more bytes of annotations."""


@pytest.fixture
def running(world: World) -> World:
    """A world with one PruneJob whose pod runs."""
    world.begin()
    world.prunejob()
    world.until(lambda: world.state() == "Running", "the run")
    world.jobs()
    return world


def settled_writes(world: World) -> int:
    world.until(world.settled, "quiet")
    return len(world.proxy.writes)


def pods(world: World) -> list[str]:
    return [pod["metadata"]["uid"] for pod in world.items("pods")]


@pytest.mark.parametrize("after", [False, True], ids=["mid-run", "after the end"])
def test_a_job_deleted_by_a_person(running: World, after: bool) -> None:
    if after:
        finish_ready(running)
    before = running.get("prunejobs")["status"]
    (job,) = running.jobs()
    running.delete("jobs", job["metadata"]["name"])
    if after:
        # A result is a result, whatever becomes of the Job that found it.
        running.until(lambda: not running.jobs(), "the end of the Job")
        running.until(running.settled, "quiet")
        assert running.get("prunejobs")["status"] == before
        assert running.created_jobs() == 1
        return
    running.until(lambda: [item["metadata"]["uid"] for item in running.jobs()] not in ([], [job["metadata"]["uid"]]),
                  "another Job under the same name")  # fmt: skip
    running.finish()
    running.until(lambda: running.holds("Ready"), "the end")
    assert running.created_jobs() == 2
    assert len(running.jobs()) == 1


def test_a_job_suspended_by_a_person_goes_on(running: World) -> None:
    (job,) = running.jobs()
    running.edit("jobs", job["metadata"]["name"], spec={"suspend": True})
    running.until(lambda: not running.jobs()[0]["spec"]["suspend"], "the Job goes on")
    finish_ready(running)


def test_a_jobs_label_removed_by_a_person_makes_no_second_job(running: World) -> None:
    (job,) = running.jobs()
    running.edit("jobs", job["metadata"]["name"], metadata={"labels": {"coppice.dev/prunejob": None}})
    running.until(running.settled, "quiet")
    finish_ready(running)


def test_a_jobs_parallelism_edited_by_a_person(running: World) -> None:
    (job,) = running.jobs()
    running.edit("jobs", job["metadata"]["name"], spec={"parallelism": 0})
    running.until(lambda: pods(running) == [], "the pod goes")
    running.until(running.settled, "quiet")
    assert len(running.jobs()) == 1
    running.edit("jobs", job["metadata"]["name"], spec={"parallelism": 1})
    finish_ready(running)


def test_a_jobs_spec_digest_edited_by_a_person(running: World) -> None:
    (job,) = running.jobs()
    running.edit("jobs", job["metadata"]["name"], metadata={"annotations": {DIGEST: "v9:nonsense"}})
    running.until(running.settled, "quiet")
    finish_ready(running)


@pytest.mark.parametrize("after", [False, True], ids=["mid-run", "after the end"])
def test_a_status_that_is_wiped_is_written_again(running: World, after: bool) -> None:
    if after:
        finish_ready(running)
    before = running.state()
    running.api.merge(running.name, "prunejobs", "digits", {"status": None}, "status")
    running.until(lambda: running.state() == before, "the same status")
    if not after:
        finish_ready(running)
    assert running.created_jobs() == 1


def test_a_status_that_is_wiped_after_the_job_is_gone_runs_again_once(running: World) -> None:
    finish_ready(running)
    (job,) = running.jobs()
    running.delete("jobs", job["metadata"]["name"])
    running.until(lambda: not running.jobs(), "the end of the Job")
    running.api.merge(running.name, "prunejobs", "digits", {"status": None}, "status")
    running.until(lambda: running.holds("Ready"), "the run again")
    assert running.created_jobs() == 2
    assert len(running.jobs()) == 1


def test_a_prunejob_deleted_and_made_again_under_its_name(running: World) -> None:
    (old,) = running.jobs()
    running.delete("prunejobs", "digits")
    running.prunejob()
    running.until(lambda: [job["metadata"]["name"] for job in running.jobs()] not in ([], [old["metadata"]["name"]])
                  and len(running.jobs()) == 1, "one Job of its own")  # fmt: skip
    running.finish()
    running.until(lambda: running.holds("Ready"), "the end")
    (new,) = running.jobs()
    assert new["metadata"]["ownerReferences"][0]["uid"] == running.get("prunejobs")["metadata"]["uid"]
    assert running.created_jobs() == 2


def test_a_namespace_that_is_deleted_takes_everything_and_the_operator_stays(running: World) -> None:
    running.api.delete("", "namespaces", running.name)
    running.until(lambda: not running.items("prunejobs") and not running.items("jobs"), "the end of what is in it")
    running.until(running.settled, "quiet")
    assert running.operator.alive
    assert running.created_jobs() == 1


def test_pods_deleted_evicted_or_lost_with_their_node_are_replaced(world: World) -> None:
    classes = ("deleted", "evicted", "lost")
    node = f"node-of-{world.name}"
    world.api.call("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    try:
        world.prunejob(hardware=[{"name": name} for name in classes])
        world.until(lambda: len(world.items("pods")) == len(classes), "a pod of each class")
        name_of = {pod["metadata"]["labels"][HARDWARE]: pod["metadata"]["name"] for pod in world.items("pods")}
        path_of = {hardware: f"/api/v1/namespaces/{world.name}/pods/{name}" for hardware, name in name_of.items()}
        world.api.call(
            "POST", f"{path_of['lost']}/binding",
            {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name_of["lost"]},
             "target": {"kind": "Node", "name": node}},
        )  # fmt: skip
        world.begin(*classes)
        world.until(lambda: {world.state(hardware=name) for name in classes} == {"Running"}, "all run")
    finally:
        world.api.delete("", "nodes", node)
    world.delete("pods", name_of["deleted"])
    world.api.call(
        "POST", f"{path_of['evicted']}/eviction",
        {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name_of["evicted"]}},
    )  # fmt: skip
    # The garbage collector of pods waits 40 s before it believes in a node's end: what it does then is done here.
    gone = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
    world.edit("pods", name_of["lost"], "status", status={"phase": "Failed", "conditions": [gone]})
    world.api.call("DELETE", f"{path_of['lost']}?gracePeriodSeconds=0")
    old = set(name_of.values())
    world.until(
        lambda: {pod["metadata"]["labels"][HARDWARE] for pod in world.items("pods")
                 if pod["metadata"]["name"] not in old and pod["status"].get("phase") == "Running"} == set(classes),
        "another pod of each class",
    )  # fmt: skip
    assert {world.state(hardware=name) for name in classes} == {"Running"}
    world.finish(*classes)
    world.until(lambda: world.holds("Ready"), "the end")
    world.jobs()
    assert len(world.jobs_seen) == world.created_jobs() == len(classes)


def test_a_prunejob_with_as_many_annotations_as_it_takes(world: World) -> None:
    world.prunejob()
    world.edit("prunejobs", "digits", metadata={"annotations": {"fat": "x" * (LIMIT - 1000)}})
    world.until(world.jobs, "the Job")
    finish_ready(world)


def test_a_target_with_as_many_annotations_as_it_takes(world: World) -> None:
    world.deployment("digits-a", annotations={"fat": "x" * (LIMIT - 1000)})
    world.prunejob(rollout__targets=[{"name": "digits-a"}], rollout__strategy={"waves": [{"targets": "100%"}]})
    finish_ready_with(world, "RolledOut")
    assert len(world.get("deployments", "digits-a")["metadata"]["annotations"]["fat"]) == LIMIT - 1000


def finish_ready_with(world: World, reason: str) -> None:
    world.finish()
    world.until(lambda: world.holds("Ready", reason=reason), "the end")
    world.jobs()
    assert len(world.jobs_seen) == 1
    assert world.created_jobs() == 1
    assert sum(write.kind == "create modelrollouts" and write.status == 201 for write in world.proxy.writes) == 1


def test_a_name_as_long_as_the_api_takes(world: World) -> None:
    name = "n" * 63 + "." + "m" * 63 + "." + "o" * 63 + "." + "p" * 60
    world.prunejob(name)
    world.until(world.jobs, "the Job")
    (job,) = world.jobs()
    assert len(job["metadata"]["name"]) <= 63
    assert job["metadata"]["labels"]["coppice.dev/prunejob"] == label_value(name)
    world.finish()
    world.until(lambda: world.holds("Ready", name), "the end")
    assert world.created_jobs() == 1


def test_unicode_labels_and_annotations_are_nobodys_business(world: World) -> None:
    world.prunejob()
    world.edit("prunejobs", "digits", metadata={"annotations": {"note": "模型 🌳 ‮naïve\u0000".replace("\u0000", "")}})
    world.until(world.jobs, "the Job")
    finish_ready(world)


def test_a_job_of_somebody_else_under_our_label_is_left_alone(world: World) -> None:
    world.prunejob()
    world.until(world.jobs, "the Job")
    (job,) = world.jobs()
    stranger = {
        "metadata": {"name": "stranger", "labels": job["metadata"]["labels"]},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never",
                                                        "containers": [{"name": "c", "image": "i"}]}}},
    }  # fmt: skip
    world.api.create(world.name, "jobs", stranger)
    world.finish()
    world.until(lambda: world.holds("Ready"), "the end")
    assert world.get("jobs", "stranger")["spec"]["suspend"] is True
    assert world.created_jobs() == 1
