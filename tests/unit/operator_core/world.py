"""A PruneJob and what became of it, for tests of the planner: builders, and a world in which its plans are done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from coppice_api.base import Provenance
from coppice_api.prunejob import PruneJob
from coppice_api.run import ModelFigures, Outcome, Progress, ReportedArtifact, RunReport
from coppice_operator.plan import ApplyObject, CreateObject, DeleteObject, PatchObject, Plan
from coppice_operator.prunejob.observation import PruneJobObservation, Refusal
from coppice_operator.prunejob.plan import plan
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
        self.silent_since: dict[str, datetime] = {}
        self.services: dict[str, Json] = {}
        self.refused: dict[str, Refusal] = {}
        self.now = NOW
        self.clock_set_at: datetime | None = None

    def plan(self) -> Plan:
        return plan(
            PruneJobObservation(
                prunejob=self.prunejob, jobs=self.jobs, pods=tuple(self.pods), progress=self.progress,
                silent_since=self.silent_since, rollouts=self.rollouts, refused=self.refused,
                clock_set_at=self.clock_set_at,
                default_image="coppice:test",
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
                places = {"Job": self.jobs, "Service": self.services, "ModelRollout": self.rollouts}
                places[manifest["kind"]][manifest["metadata"]["name"]] = manifest
            elif isinstance(action, PatchObject):
                self.jobs[action.name]["spec"] |= action.patch["spec"]
            elif isinstance(action, DeleteObject):
                assert self.jobs[action.name]["metadata"]["uid"] == action.uid
                del self.jobs[action.name]
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

    def add_pod(self, phase: str = "Running", hardware: str = "default", index: int = 0, **status: Any) -> None:
        name = next(
            job for job in self.jobs if self.jobs[job]["metadata"]["labels"]["coppice.dev/hardware"] == hardware
        )
        self.pods.append(
            {
                "metadata": {
                    "name": f"{name}-{len(self.pods)}", "namespace": "default",
                    "creationTimestamp": f"2026-01-02T03:04:{len(self.pods):02d}Z",
                    "labels": {
                        "batch.kubernetes.io/job-name": name, "coppice.dev/hardware": hardware,
                        "batch.kubernetes.io/controller-uid": self.jobs[name]["metadata"]["uid"],
                        "batch.kubernetes.io/job-completion-index": str(index),
                    },
                },
                "spec": {"nodeName": "gpu-7"},
                "status": {"phase": phase, **status},
            }
        )  # fmt: skip

    def end_pod(
        self, code: int, message: str, hardware: str = "default", index: int = 0, reason: str = "Error", **status: Any
    ) -> None:
        state = {"terminated": {"exitCode": code, "message": message, "reason": reason}}
        phase = "Failed" if code else "Succeeded"
        self.add_pod(phase, hardware, index, containerStatuses=[{"name": "run", "state": state}], **status)

    def condition(self, kind: str) -> tuple[str, str]:
        found = {item["type"]: item for item in self.prunejob["status"]["conditions"]}
        return found[kind]["status"], found[kind]["reason"]

    def message(self, kind: str) -> str:
        return str({item["type"]: item for item in self.prunejob["status"]["conditions"]}[kind]["message"])

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
