"""Statuses as the planners write them, each with the health that a GitOps tool should see."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from coppice_api.modelrollout import GitState
from coppice_api.run import Outcome
from tests.unit.operator_core.world import ROLLOUT, World, met, report
from tests.unit.operator_delivery.simulation import GitSimulation, git_rollout
from tests.unit.operator_rollout.simulator import PRUNED, Simulation, deployment, rollout

Object = dict[str, Any]


def kstatus(item: Object) -> str:
    """kstatus' generic rules (sigs.k8s.io/cli-utils, pkg/kstatus/status: GetStandardConditions and checkGeneric)."""
    status = item.get("status") or {}
    if "observedGeneration" in status and status["observedGeneration"] != item["metadata"].get("generation"):
        return "InProgress"
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions", [])}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if conditions.get("Ready") in ("False", "Unknown"):
        return "InProgress"
    return "Current"


def seen(item: Object) -> Object:
    """A document as the tool sees it."""
    return {"apiVersion": "coppice.dev/v1alpha1", **copy.deepcopy(item)}


def withdrawn(item: Object) -> bool:
    """Whether its spec asks for the way back."""
    spec = item["spec"]
    return bool({**spec, **spec.get("rollout", {})}.get("withdrawn"))


def life(run: Simulation, until: int = 200) -> Iterator[Object]:
    """Every status that a rollout writes."""
    for _ in range(until):
        run.step()
        yield seen(run.rollout)


def rollouts() -> dict[str, tuple[Object, str, str]]:
    """Rollouts in each of their states: document, Argo CD's health, Flux's."""
    names = ("a", "b")
    fleet = [deployment(name) for name in names]

    def at(run: Simulation, state: str) -> Object:
        return seen(run.run(until=lambda: run.state == state).rollout)

    def broken(name: str, value: str | None) -> bool:
        return value == PRUNED

    def taken_back(*, edited: bool = False) -> Object:
        run = Simulation(rollout(*names), copy.deepcopy(fleet)).run()
        if edited:
            for entry in run.fleet["a"]["spec"]["template"]["spec"]["containers"][0]["env"]:
                entry |= {"value": "file:///somebody/elses"} if entry["name"] == "MODEL_URI" else {}
        run.rollout["spec"]["withdrawn"] = True
        return at(run, "RolledBack")

    def overtaken() -> Object:
        run = Simulation(rollout(*names), copy.deepcopy(fleet))
        run.run(until=lambda: run.state == "Waiting")
        newer = rollout(*names, name="newer")
        newer["spec"]["replaces"], newer["status"] = run.rollout["metadata"]["name"], {"state": "TargetClaimed"}
        run.siblings = (newer,)
        return at(run, "Superseded")

    late = {"progressDeadlineSeconds": 10}
    proposed = git_rollout(*names, git={"branchPrefix": "coppice/"})
    refused = rollout("nowhere")
    return {
        "rolling out": (
            at(Simulation(rollout(*names), copy.deepcopy(fleet)), "RollingOut"),
            "Progressing",
            "InProgress",
        ),
        "baking": (at(Simulation(rollout(*names), copy.deepcopy(fleet)), "Waiting"), "Progressing", "InProgress"),
        "rolled out": (at(Simulation(rollout(*names), copy.deepcopy(fleet)), "RolledOut"), "Healthy", "Current"),
        "approval": (
            at(
                Simulation(rollout(*names, strategy={"approval": "Manual"}), copy.deepcopy(fleet)),
                "WaitingForApproval",
            ),
            "Suspended",
            "InProgress",
        ),
        "merge": (
            at(
                GitSimulation(proposed, copy.deepcopy(fleet), server=lambda _: GitState.PROPOSED),
                "WaitingForMerge",
            ),
            "Suspended",
            "InProgress",
        ),
        "paused": (
            at(Simulation(rollout(*names, paused=True), copy.deepcopy(fleet)), "Paused"),
            "Suspended",
            "InProgress",
        ),
        "rolling back": (
            at(Simulation(rollout(*names, strategy=late), copy.deepcopy(fleet), broken=broken), "RollingBack"),
            "Progressing",
            "InProgress",
        ),
        "rolled back": (
            at(Simulation(rollout(*names, strategy=late), copy.deepcopy(fleet), broken=broken), "RolledBack"),
            "Degraded",
            "Failed",
        ),
        "held": (
            at(
                Simulation(rollout(*names, strategy=late, onFailure="Hold"), copy.deepcopy(fleet), broken=broken),
                "Held",
            ),
            "Degraded",
            "Failed",
        ),
        # Stalled, which kstatus alone takes for a failure; the tools are told that it is what people asked for.
        "superseded": (overtaken(), "Healthy", "Current"),
        "withdrawn": (taken_back(), "Healthy", "Current"),
        "withdrawn, one target left alone": (taken_back(edited=True), "Degraded", "Failed"),
        "stalled": (at(Simulation(refused, copy.deepcopy(fleet)), "TargetNotFound"), "Degraded", "Failed"),
    }


def prunejobs() -> dict[str, tuple[Object, str, str]]:
    """PruneJobs in their states."""

    def rolled(reason: str, **values: Any) -> Object:
        world = met(**ROLLOUT, **values)
        (made,) = world.rollouts.values()
        flags = {"Ready": "False", "Stalled": "True"}
        conditions = [{"type": kind, "status": flag, "reason": reason} for kind, flag in flags.items()]
        made["status"] = {"observedGeneration": 1, "conditions": [{**one, "message": "it ended"} for one in conditions]}
        world.step()
        return seen(world.prunejob)

    running = World()
    running.step()
    suspended = World(suspend=True)
    suspended.step()
    missed = World()
    missed.step()
    missed.end_pod(0, report(Outcome.TARGET_NOT_MET))
    missed.end_job()
    missed.step()
    return {
        "running": (seen(running.prunejob), "Progressing", "InProgress"),
        "suspended": (seen(suspended.prunejob), "Suspended", "InProgress"),
        "met": (seen(met().prunejob), "Healthy", "Current"),
        "met, being rolled out": (seen(met(**ROLLOUT).prunejob), "Progressing", "InProgress"),
        "missed": (seen(missed.prunejob), "Degraded", "Failed"),
        "met, its rollout superseded": (rolled("Superseded"), "Healthy", "Current"),
        "met, its rollout withdrawn": (rolled("RolledBack", rollout__withdrawn=True), "Healthy", "Current"),
        "met, its rollout taken back": (rolled("RolledBack"), "Degraded", "Failed"),
    }


ALL = {
    **{f"ModelRollout {name}": case for name, case in rollouts().items()},
    **{f"PruneJob {name}": case for name, case in prunejobs().items()},
}
