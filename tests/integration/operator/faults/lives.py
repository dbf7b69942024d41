"""Whole lives, told as a person sees them: each ends in a picture that is the same whatever happened on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.integration.operator.faults.api import Json
from tests.integration.operator.faults.world import World, plain

_BOTH = ("digits-a", "digits-b")


@dataclass(frozen=True)
class Life:
    """What people do, and how it must end."""

    name: str
    live: Callable[[World], None]
    jobs: int
    """How many Jobs it makes, never one more."""
    writes_to_targets: Mapping[str, int]
    """How often each target's pods are changed."""


def ship(world: World) -> None:
    """Two classes, suspended and resumed, meet their target; their models go to two Deployments in two waves."""
    targets = [{"name": "digits-a", "model": "small"}, {"name": "digits-b", "model": "large"}]
    for target in targets:
        world.deployment(target["name"])
    world.begin("small", "large")
    world.prunejob(
        hardware=[{"name": "small"}, {"name": "large"}],
        rollout__targets=targets,
        rollout__strategy={"waves": [{"targets": 1}, {"targets": "100%"}]},
    )
    classes = ("small", "large")
    world.until(lambda: {world.state(hardware=name) for name in classes} == {"Running"}, "both run")
    world.edit("prunejobs", "digits", spec={"suspend": True})
    world.until(lambda: {world.state(hardware=name) for name in classes} == {"Suspended"}, "both are suspended")
    world.until(lambda: all(job["spec"]["suspend"] for job in world.jobs()), "their Jobs are")
    world.edit("prunejobs", "digits", spec={"suspend": False})
    world.until(lambda: not any(job["spec"]["suspend"] for job in world.jobs()), "both may go on")
    world.finish("small", "large")
    world.until(lambda: world.holds("Ready"), "the PruneJob is Ready")


def turn_back(world: World) -> None:
    """The second wave's Deployment does not come up with the model: both get back what they had."""
    world.sick.add("digits-b")
    world.deployment("digits-a")
    world.deployment("digits-b", patience_seconds=1)
    world.rollout(
        targets=[{"name": "digits-a"}, {"name": "digits-b"}],
        strategy={"waves": [{"targets": 1}, {"targets": "100%"}]},
    )
    world.until(lambda: world.holds("Stalled", reason="RolledBack", resource="modelrollouts"), "it is rolled back")


def take_back(world: World) -> None:
    """Two Deployments have the model, and a person withdraws it: both get back what they had, the last first."""
    for name in _BOTH:
        world.deployment(name)
    world.rollout(targets=[{"name": name} for name in _BOTH], strategy={"waves": [{"targets": 1}, {"targets": "100%"}]})
    world.until(lambda: world.holds("Ready", reason="RolledOut", resource="modelrollouts"), "it is rolled out")
    world.edit("modelrollouts", "digits", spec={"withdrawn": True})
    world.until(lambda: world.holds("Stalled", reason="RolledBack", resource="modelrollouts"), "it is taken back")


def overtake(world: World) -> None:
    """A rollout waits for approval of its second wave, and a newer one takes both Deployments over."""
    for name in _BOTH:
        world.deployment(name)
    targets = [{"name": name} for name in _BOTH]
    world.rollout(targets=targets, strategy={"waves": [{"targets": 1}, {"targets": "100%", "approval": True}]})
    state = "WaitingForApproval"
    world.until(lambda: world.get("modelrollouts").get("status", {}).get("state") == state, "it waits")
    models = [{"name": "default", "uri": "pvc://fleet-models/runs/newer", "sha256": "c" * 64}]
    world.rollout("newer", targets=targets, models=models, replaces="digits", strategy={"waves": [{"targets": "100%"}]})
    world.until(lambda: world.holds("Ready", "newer", reason="RolledOut", resource="modelrollouts"), "the newer is out")
    world.until(lambda: world.holds("Stalled", reason="Superseded", resource="modelrollouts"), "the older has ended")


LIVES = (
    Life("ship", ship, jobs=2, writes_to_targets={"digits-a": 1, "digits-b": 1}),
    Life("turn back", turn_back, jobs=0, writes_to_targets={"digits-a": 2, "digits-b": 2}),
    Life("take back", take_back, jobs=0, writes_to_targets={"digits-a": 2, "digits-b": 2}),
    Life("overtake", overtake, jobs=0, writes_to_targets={"digits-a": 2, "digits-b": 1}),
)


def picture(world: World) -> Json:
    """Return everything that must be the same at the end, without times and uids."""
    jobs = world.jobs()
    names = {job["metadata"]["name"]: f"the Job of {job['metadata']['labels']['coppice.dev/hardware']}" for job in jobs}
    return {
        "jobs": sorted(names.values()),
        "prunejobs": [plain(item.get("status"), names) for item in world.items("prunejobs")],
        "rollouts": [
            {"name": item["metadata"]["name"], "spec": item["spec"], "status": plain(item.get("status"), names)}
            for item in world.items("modelrollouts")
        ],
        "targets": {
            item["metadata"]["name"]: (world.model_of(item["metadata"]["name"]), item["metadata"]["generation"])
            for item in world.items("deployments")
        },
    }


def lost_or_doubled(world: World, life: Life) -> list[str]:
    """Return what must not have happened on the way."""
    made = {kind: sum(write.kind == f"create {kind}" and write.status == 201 for write in world.proxy.writes)
            for kind in ("jobs", "modelrollouts")}  # fmt: skip
    generations = {item["metadata"]["name"]: item["metadata"]["generation"] for item in world.items("deployments")}
    wanted_rollouts = 1 if life.jobs else 0
    faults = [
        (made["jobs"] != life.jobs, f"{made['jobs']} Jobs were made, not {life.jobs}"),
        (len(world.jobs_seen) != life.jobs, f"{len(world.jobs_seen)} Jobs were seen, not {life.jobs}"),
        (made["modelrollouts"] != wanted_rollouts, f"{made['modelrollouts']} rollouts were made"),
        (
            generations != {name: 1 + count for name, count in life.writes_to_targets.items()},
            f"targets were changed otherwise: {generations}",
        ),
    ]
    return [text for wrong, text in faults if wrong]
