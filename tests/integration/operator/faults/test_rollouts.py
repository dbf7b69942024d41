"""Deployments and rollouts are deleted, edited and refused while a wave is under way."""

from __future__ import annotations

import pytest

from tests.builders import DIGEST
from tests.integration.operator.faults.proxy import Cut, Effect, First, Refuse
from tests.integration.operator.faults.world import World

MODEL = f"pvc://fleet-models/runs/pruned#sha256={DIGEST}"
NAMES = ("digits-a", "digits-b")
AT_ONCE = {"waves": [{"targets": "100%"}]}


def begin(world: World) -> None:
    """Start a rollout to two Deployments, the second of which does not come up with the model."""
    world.sick.add("digits-b")
    for name in NAMES:
        world.deployment(name)
    world.rollout(targets=[{"name": name} for name in NAMES], strategy={"waves": [{"targets": 1}, {"targets": "100%"}]})
    world.until(lambda: world.model_of("digits-b") == MODEL, "the second wave")


def state(world: World, name: str = "digits") -> str:
    return str(world.get("modelrollouts", name).get("status", {}).get("state", ""))


def ends(world: World, reason: str, name: str = "digits") -> None:
    world.until(lambda: state(world, name) == reason, reason)
    world.until(world.settled, "quiet")
    assert state(world, name) == reason
    assert world.created_jobs() == 0


@pytest.mark.parametrize(
    ("resource", "effect"),
    [
        pytest.param(resource, effect, id=f"{name} on {resource}")
        for resource in ("deployments", "modelrollouts/status")
        for name, effect in (("409", Refuse(409)), ("503", Refuse(503)), ("no answer", Cut()))
    ],
)
def test_a_write_that_fails_mid_wave_is_made_in_the_end(world: World, resource: str, effect: Effect) -> None:
    world.deployment("digits-a")
    fault = world.proxy.inject(effect, verb="update|patch", resource=resource, times=2)
    world.rollout(targets=[{"name": "digits-a"}], strategy=AT_ONCE)
    ends(world, "RolledOut")
    # An answer that is lost was a write all the same, and a watch may show it before the write is tried again.
    assert fault.struck > 0
    assert world.model_of("digits-a") == MODEL
    assert world.get("deployments", "digits-a")["metadata"]["generation"] == 2


def test_a_model_that_a_person_sets_in_the_moment_before_our_write_is_left_to_them(world: World) -> None:
    world.deployment("digits-a")

    def edited() -> None:
        world.edit("deployments", "digits-a", spec={"template": {"spec": {"containers": [
            {"name": "server", "image": "server", "env": [{"name": "MODEL_URI", "value": "pvc://theirs"}]}
        ]}}})  # fmt: skip

    world.proxy.inject(First(edited), verb="patch", resource="deployments")
    world.rollout(targets=[{"name": "digits-a"}], strategy=AT_ONCE)
    ends(world, "RolledBack")
    assert world.model_of("digits-a") == "pvc://theirs"
    assert world.get("deployments", "digits-a")["metadata"]["generation"] == 2


def test_what_else_a_person_edits_in_the_moment_before_our_write_stays_and_the_model_comes(world: World) -> None:
    world.deployment("digits-a")
    fault = world.proxy.inject(
        First(lambda: world.edit("deployments", "digits-a", spec={"minReadySeconds": 1}) and None),
        verb="patch", resource="deployments",
    )  # fmt: skip
    world.rollout(targets=[{"name": "digits-a"}], strategy=AT_ONCE)
    ends(world, "RolledOut")
    assert fault.struck == 1
    assert world.model_of("digits-a") == MODEL
    assert world.get("deployments", "digits-a")["spec"]["minReadySeconds"] == 1


def test_a_rollout_is_not_made_twice_when_its_answer_is_lost(world: World) -> None:
    world.deployment("digits-a")
    fault = world.proxy.inject(Cut(), verb="create", resource="modelrollouts")
    world.prunejob(rollout__targets=[{"name": "digits-a"}], rollout__strategy=AT_ONCE)
    world.finish()
    world.until(lambda: world.holds("Ready", reason="RolledOut"), "the end")
    assert fault.struck == 1
    assert len(world.items("modelrollouts")) == 1
    assert world.created_jobs() == 1


def test_a_deployment_deleted_mid_wave_takes_the_others_back(world: World) -> None:
    begin(world)
    world.delete("deployments", "digits-b")
    ends(world, "RolledBack")
    assert world.model_of("digits-a") == ""
    assert "digits-b was deleted" in world.condition("Stalled", resource="modelrollouts")[2]


def test_a_model_edited_by_a_person_mid_wave_is_left_to_them(world: World) -> None:
    begin(world)
    (container,) = world.get("deployments", "digits-b")["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "MODEL_URI", "value": "pvc://theirs"}]
    world.edit("deployments", "digits-b", spec={"template": {"spec": {"containers": [container]}}})
    ends(world, "RolledBack")
    assert world.model_of("digits-a") == ""
    assert world.model_of("digits-b") == "pvc://theirs"


def test_an_image_edited_by_a_person_mid_wave_is_kept(world: World) -> None:
    begin(world)
    (container,) = world.get("deployments", "digits-b")["spec"]["template"]["spec"]["containers"]
    container["image"] = "server:2"
    world.edit("deployments", "digits-b", spec={"template": {"spec": {"containers": [container]}}})
    world.sick.clear()
    ends(world, "RolledOut")
    (container,) = world.get("deployments", "digits-b")["spec"]["template"]["spec"]["containers"]
    assert (container["image"], world.model_of("digits-b")) == ("server:2", MODEL)


def test_a_deployment_scaled_to_0_mid_wave_counts_as_updated(world: World) -> None:
    begin(world)
    world.edit("deployments", "digits-b", spec={"replicas": 0})
    ends(world, "RolledOut")
    assert world.model_of("digits-b") == MODEL


def test_a_rollout_deleted_mid_wave_leaves_targets_as_they_are(world: World) -> None:
    begin(world)
    world.delete("modelrollouts", "digits")
    world.until(lambda: world.get("modelrollouts") == {}, "its end")
    world.until(world.settled, "quiet")
    assert [world.model_of(name) for name in NAMES] == [MODEL, MODEL]
    world.sick.clear()
    world.rollout(targets=[{"name": name} for name in NAMES], strategy=AT_ONCE)
    ends(world, "RolledOut")


def test_a_rollout_of_a_prunejob_deleted_mid_wave_is_made_again(world: World) -> None:
    world.sick.add("digits-a")
    world.deployment("digits-a")
    world.prunejob(rollout__targets=[{"name": "digits-a"}], rollout__strategy=AT_ONCE)
    world.finish()
    world.until(lambda: world.model_of("digits-a"), "the wave")
    (rollout,) = world.items("modelrollouts")
    world.delete("modelrollouts", rollout["metadata"]["name"])
    world.sick.clear()
    world.until(lambda: world.holds("Ready", reason="RolledOut"), "the end")
    (again,) = world.items("modelrollouts")
    assert again["metadata"]["uid"] != rollout["metadata"]["uid"]
    assert world.created_jobs() == 1


def test_a_rollout_paused_by_a_person_stops_and_goes_on(world: World) -> None:
    begin(world)
    world.edit("modelrollouts", "digits", spec={"paused": True})
    world.until(lambda: state(world) == "Paused", "the pause")
    world.sick.clear()
    world.edit("modelrollouts", "digits", spec={"paused": False})
    ends(world, "RolledOut")


def test_a_rollouts_status_wiped_after_its_end_writes_no_target_again(world: World) -> None:
    world.deployment("digits-a")
    world.rollout(targets=[{"name": "digits-a"}], strategy=AT_ONCE)
    ends(world, "RolledOut")
    world.api.merge(world.name, "modelrollouts", "digits", {"status": None}, "status")
    world.until(lambda: state(world) == "RolledOut", "the status again")
    assert world.model_of("digits-a") == MODEL
    assert world.get("deployments", "digits-a")["metadata"]["generation"] == 2


def test_a_rollouts_status_wiped_mid_wave_by_whoever_killed_the_operator_loses_no_way_back(world: World) -> None:
    for name in NAMES:
        world.deployment(name)
    dense = {name: world.model_of(name) for name in NAMES}
    world.sick.add("digits-b")
    world.rollout(
        targets=[{"name": name} for name in NAMES],
        strategy={"waves": [{"targets": 1}, {"targets": "100%"}], "progressDeadlineSeconds": 20},
    )
    world.until(lambda: world.model_of("digits-b") == MODEL, "the second wave")
    world.operator.kill()
    world.api.merge(world.name, "modelrollouts", "digits", {"status": None}, "status")
    world.operator.restart()
    ends(world, "RolledBack")
    assert {name: world.model_of(name) for name in NAMES} == dense
    assert MODEL not in dense.values()


def test_two_operators_at_once_write_a_target_once(world: World) -> None:
    world.deployment("digits-a")
    other = world.another()
    try:
        world.until(other.ready, "the other operator")
        world.rollout(targets=[{"name": "digits-a"}], strategy=AT_ONCE)
        ends(world, "RolledOut")
        assert world.get("deployments", "digits-a")["metadata"]["generation"] == 2
    finally:
        other.end()


def test_a_permission_on_targets_that_is_missing_is_waited_for(world: World) -> None:
    world.deployment("digits-a")
    fault = world.proxy.inject(Refuse(403, "deployments.apps is forbidden"), resource="deployments", verb="patch",
                               times=3)  # fmt: skip
    world.rollout(targets=[{"name": "digits-a"}], strategy=AT_ONCE)
    ends(world, "RolledOut")
    assert fault.struck == 3
    assert world.get("deployments", "digits-a")["metadata"]["generation"] == 2


def test_a_deployment_made_mid_wave_joins_the_last_wave(world: World) -> None:
    labels = {"fleet": "digits"}
    world.sick.add("digits-a")
    world.deployment("digits-a", labels=labels)
    world.rollout(targets=[{"selector": {"matchLabels": labels}}], strategy=AT_ONCE)
    world.until(lambda: world.model_of("digits-a") == MODEL, "the wave")
    world.deployment("digits-b", labels=labels)
    world.until(lambda: world.model_of("digits-b") == MODEL, "the new one")
    world.sick.clear()
    ends(world, "RolledOut")
    assert world.get("modelrollouts")["status"]["totalTargets"] == 2


def test_a_deployment_that_an_autoscaler_owns_keeps_its_replicas(world: World) -> None:
    begin(world)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "digits-b"}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 5}
    path = f"/apis/autoscaling/v2/namespaces/{world.name}/horizontalpodautoscalers"
    world.api.call("POST", path, {"metadata": {"name": "digits-b"}, "spec": spec})
    # There are no pod metrics here, so the test says what the autoscaler would: its one write is to the scale.
    world.edit("deployments", "digits-b", "scale", spec={"replicas": 3})
    world.sick.clear()
    ends(world, "RolledOut")
    found = world.get("deployments", "digits-b")
    assert (found["spec"]["replicas"], world.model_of("digits-b")) == (3, MODEL)
    owners = [entry["manager"] for entry in found["metadata"]["managedFields"] if "f:replicas" in str(entry)]
    assert "coppice" not in owners


def test_a_deployment_that_is_paused_before_its_wave_is_not_touched(world: World) -> None:
    world.deployment("digits-a")
    world.edit("deployments", "digits-a", spec={"paused": True})
    world.rollout(targets=[{"name": "digits-a"}], strategy=AT_ONCE)
    world.until(lambda: state(world) == "TargetUnhealthy", "the reason")
    assert "Deployment digits-a is paused" in world.condition("Ready", resource="modelrollouts")[2]
    assert world.model_of("digits-a") == ""
    world.edit("deployments", "digits-a", spec={"paused": False})
    ends(world, "RolledOut")
