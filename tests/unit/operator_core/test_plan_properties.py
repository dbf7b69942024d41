"""What holds for the planner whatever a cluster does: a state machine whose rules are what clusters do.

The planner, the writer and the cache are the real ones. Under them is an API server in memory with what matters here:
resource versions, merge patches, 409, watch events that arrive late, writes that fail before or after they happened.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coppice_api.base import Provenance
from coppice_api.prunejob import PruneJob
from coppice_api.run import ModelFigures, Outcome, Progress, ReportedArtifact, RunReport
from coppice_operator.cache import Cache
from coppice_operator.conditions import timestamp
from coppice_operator.kube import KubeError, collection_path
from coppice_operator.plan import CreateObject, DeleteObject, PatchObject, Plan
from coppice_operator.prunejob.manifest import job_name
from coppice_operator.prunejob.observation import PruneJobObservation
from coppice_operator.prunejob.plan import plan
from coppice_operator.writer import StaleError, Writer
from tests.builders import DIGEST, prune_job

Json = dict[str, Any]
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMESPACE = "fleet"
KINDS = ("PruneJob", "Job", "Pod", "ModelRollout")
WATCHED = st.sampled_from(KINDS)
FINISHED = ("TargetMet", "TargetNotMet", "Failed")
PASSES_TO_SETTLE = 4
WRITES_PER_CHANGE = 4
"""Status and one action for each of two classes, and the status that follows."""
HARDWARE = st.sampled_from([[{"name": "a100"}], [{"name": "a100"}, {"name": "h100"}]])
FIGURES = ModelFigures(accuracy_ratio=0.99, energy_joules=2.0, power_watts=4.0, latency_seconds=0.02, memory_bytes=1000)


def report(outcome: Outcome) -> str:
    return RunReport(
        outcome=outcome, message="so it went", dense=FIGURES, pruned=FIGURES, energy_reduction_ratio=0.65,
        energy_reduction_interval=(0.6, 0.7), provenance=Provenance.MEASURED,
        artifact=ReportedArtifact(uri="pvc://fleet-models/runs/m", sha256=DIGEST),
    ).to_termination_message()  # fmt: skip


ENDINGS = {
    "met": (0, report(Outcome.TARGET_MET)),
    "missed": (0, report(Outcome.TARGET_NOT_MET)),
    "no report": (0, "no report"),
    "silent": (0, ""),
    "failed": (1, report(Outcome.FAILED)),
    "crashed": (1, ""),
    "refused": (4, report(Outcome.INPUT_REFUSED)),
    "unmeasurable": (5, report(Outcome.MEASUREMENT_IMPOSSIBLE)),
    "killed": (137, ""),
}
ANY_END = st.sampled_from(list(ENDINGS))
LIKELY_END = st.just("met") | ANY_END
CONDITIONS = {0: ("Complete", ""), 4: ("Failed", "PodFailurePolicy"), 5: ("Failed", "PodFailurePolicy")}


class CrashedError(Exception):
    """The operator was killed."""


class ApiServer:
    """Objects, versions and watch events; nothing happens by itself."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.events: dict[str, list[tuple[str, Json]]] = {kind: [] for kind in KINDS}
        self.version = 0
        self.writes = 0
        self.faults: list[str] = []
        """What happens to the next writes: "ok", "before", "after", "killed before", "killed after"."""

    def put(self, kind: str, item: Json) -> Json:
        """Store an object as somebody other than the operator does, or after a check."""
        name = item["metadata"]["name"]
        before = self.objects.get((kind, name))
        if before is not None and _versionless(before) == _versionless(item):
            return before
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        if before is None:
            item["metadata"] |= {"uid": f"u-{self.version}", "generation": 1, "creationTimestamp": timestamp(START)}
        elif before.get("spec") != item.get("spec"):
            item["metadata"]["generation"] = before["metadata"]["generation"] + 1
        self.objects[kind, name] = item
        if kind in self.events:
            self.events[kind].append(("MODIFIED", copy.deepcopy(item)))
        return item

    def remove(self, kind: str, name: str) -> None:
        item = self.objects.pop((kind, name), None)
        if item is not None and kind in self.events:
            self.events[kind].append(("DELETED", item))

    def of(self, kind: str) -> list[Json]:
        return [item for (held, _), item in self.objects.items() if held == kind]

    async def get(self, path: str, **_: str) -> Json:
        return copy.deepcopy(self._found(path))

    async def create(self, path: str, body: Json) -> Json:
        kind = _kind(path)
        if (kind, body["metadata"]["name"]) in self.objects:
            raise KubeError(409, "exists")
        return self._write(lambda: self.put(kind, copy.deepcopy(body)))

    async def replace(self, path: str, body: Json) -> Json:
        before = self._found(path.removesuffix("/status"))
        if body["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
            raise KubeError(409, "conflict")
        return self._write(lambda: self.put(_kind(path), {**before, "status": copy.deepcopy(body["status"])}))

    async def merge(self, path: str, body: Json) -> Json:
        after = _merged(self._found(path), body)
        return self._write(lambda: self.put(_kind(path), after))

    async def apply(self, path: str, body: Json) -> Json:
        before = self._found(path)
        return self._write(lambda: self.put(_kind(path), {**before, "spec": body["spec"]}))

    async def delete(self, path: str, body: Json) -> Json:
        item = self._found(path)
        if body["preconditions"]["uid"] != item["metadata"]["uid"]:
            raise KubeError(409, "another uid")
        return self._write(lambda: self.remove(_kind(path), item["metadata"]["name"]) or item)

    def _write(self, write: Callable[[], Json]) -> Json:
        fault = self.faults.pop(0) if self.faults else "ok"
        if fault.endswith("before"):
            raise CrashedError if "killed" in fault else KubeError(500, "not now")
        item = copy.deepcopy(write())
        if item.get("kind") != "Event":
            self.writes += 1
        if fault.endswith("after"):
            raise CrashedError if "killed" in fault else KubeError(0, "no answer")
        return item

    def _found(self, path: str) -> Json:
        try:
            return self.objects[_kind(path), path.rpartition("/")[2]]
        except KeyError:
            raise KubeError(404, path) from None


class Operator:
    """One life of the operator process: a cache, a writer, and passes."""

    def __init__(self, server: ApiServer) -> None:
        self._server, self._cache = server, Cache()
        self._writer = Writer(server, self._cache)  # type: ignore[arg-type]
        self._seen = dict.fromkeys(KINDS, 0)
        for kind in KINDS:
            for item in copy.deepcopy(server.of(kind)):
                self._cache.put(kind, item)
            self._seen[kind] = len(server.events[kind])

    def deliver(self, kind: str, count: int = sys.maxsize) -> None:
        """Hand over the next watch events of a kind."""
        for what, item in self._server.events[kind][self._seen[kind] :][:count]:
            self._seen[kind] += 1
            if what == "DELETED":
                self._cache.remove(kind, item)
            else:
                self._cache.put(kind, copy.deepcopy(item))

    def observe(self, progress: dict[str, Progress]) -> PruneJobObservation | None:
        item = self._cache.get("PruneJob", (NAMESPACE, "digits"))
        if item is None:
            return None
        return PruneJobObservation(
            prunejob=item,
            jobs=self._cache.in_namespace("Job", NAMESPACE),
            pods=tuple(self._cache.in_namespace("Pod", NAMESPACE).values()),
            progress=progress,
            rollouts=self._cache.in_namespace("ModelRollout", NAMESPACE),
            default_image="coppice:test",
        )

    def carry_out(self, made: Plan, item: Json) -> None:
        _run(self._writer.carry_out(made, "PruneJob", item))


class Life(RuleBasedStateMachine):
    """One PruneJob from its creation on."""

    def __init__(self) -> None:
        super().__init__()
        self.server = ApiServer()
        self.operator = Operator(self.server)
        self.progress: dict[str, Progress] = {}
        self.now = START
        self.changes = 1
        self.names: dict[tuple[str, str], set[str]] = {}
        """Names of Jobs made for a (uid, hardware)."""
        self.results: dict[str, Json] = {}
        """Finished variants of the stored status, by hardware."""

    @initialize(
        hardware=HARDWARE, queued=st.booleans(), rollout=st.booleans(), suspended=st.booleans(),
        endings=st.tuples(LIKELY_END, LIKELY_END), taken=st.booleans(),
    )  # fmt: skip
    def create(
        self, hardware: list[Json], queued: bool, rollout: bool, suspended: bool, endings: tuple[str, str],
        taken: bool,
    ) -> None:  # fmt: skip
        self.endings = dict(zip(("a100", "h100"), endings, strict=True))
        self.taken = taken
        spec: Json = {"hardware": hardware, "suspend": suspended}
        if queued:
            spec["run"] = {"queueName": "gpus"}
        if rollout:
            spec["rollout"] = {"targets": [{"name": "digits-a"}]}
        self._create(prune_job(**spec))

    def _create(self, document: Json) -> None:
        document["metadata"] = {"name": "digits", "namespace": NAMESPACE}
        self.server.put("PruneJob", document)
        self.results.clear()

    # What people do.

    @rule(value=st.booleans())
    def set_suspend(self, value: bool) -> None:
        self._edit("PruneJob", "digits", {"spec": {"suspend": value}})

    @precondition(lambda self: self._spec().get("rollout"))
    @rule(value=st.booleans())
    def edit_the_rollout(self, value: bool) -> None:
        self._edit("PruneJob", "digits", {"spec": {"rollout": {"paused": value}}})

    @rule()
    def delete_and_create_again(self) -> None:
        document = {key: copy.deepcopy(self._prunejob()[key]) for key in ("apiVersion", "kind", "spec")}
        self.server.remove("PruneJob", "digits")
        self._create(document)
        self.changes += 1

    @rule(part=st.sampled_from(["all", "variants", "conditions"]))
    def lose_status(self, part: str) -> None:
        lost = None if part == "all" else {part: None}
        self._edit("PruneJob", "digits", {"status": lost})
        if part != "conditions":
            self.results.clear()

    @precondition(lambda self: self.server.of("Job"))
    @rule(data=st.data(), value=st.booleans())
    def set_suspend_of_a_job(self, data: st.DataObject, value: bool) -> None:
        """Kueue admits and preempts so, and people meddle so."""
        self._edit("Job", self._some(data, "Job")["metadata"]["name"], {"spec": {"suspend": value}})

    # What clusters do.

    @precondition(lambda self: self.server.of("Job"))
    @rule(data=st.data())
    def a_pod_appears(self, data: st.DataObject) -> None:
        job = self._some(data, "Job")
        if not job["spec"].get("suspend") and not _ended(job) and not self._live(job):
            self._add_pod(job)

    @precondition(lambda self: self.server.of("Pod"))
    @rule(data=st.data(), why=st.sampled_from(["Unschedulable", "ErrImagePull", "Running", "Running", "Unknown"]))
    def a_pod_gets_on(self, data: st.DataObject, why: str) -> None:
        pod = self._some(data, "Pod")
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            return
        status: Json = {"phase": why if why in ("Running", "Unknown") else "Pending", "conditions": None,
                        "containerStatuses": None}  # fmt: skip
        if why == "Unschedulable":
            status["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": why, "message": "no node"}]
        if why == "ErrImagePull":
            waiting = {"reason": why, "message": "not found"}
            status["containerStatuses"] = [{"name": "run", "state": {"waiting": waiting}}]
        self._edit("Pod", pod["metadata"]["name"], {"status": status})

    @precondition(lambda self: self.server.of("Pod"))
    @rule(data=st.data(), ending=ANY_END)
    def a_pod_ends(self, data: st.DataObject, ending: str) -> None:
        pod = self._some(data, "Pod")
        if pod["status"].get("phase") not in ("Succeeded", "Failed"):
            self._end_pod(pod, *ENDINGS[ending])

    @precondition(lambda self: self.server.of("Pod"))
    @rule(data=st.data())
    def a_pod_is_lost(self, data: st.DataObject) -> None:
        self.server.remove("Pod", self._some(data, "Pod")["metadata"]["name"])
        self.changes += 1

    @precondition(lambda self: self.server.of("Job"))
    @rule(data=st.data(), end=st.sampled_from(["pod's", "BackoffLimitExceeded", "DeadlineExceeded"]))
    def a_job_ends(self, data: st.DataObject, end: str) -> None:
        job = self._some(data, "Job")
        codes = [self._code(pod) for pod in self._pods(job)]
        if _ended(job) or (end == "pod's" and not set(codes) & set(CONDITIONS)):
            return
        kind, reason = ("Failed", end)
        if end == "pod's":
            kind, reason = CONDITIONS[next(code for code in reversed(codes) if code in CONDITIONS)]
        self._end_job(job, kind, reason)

    @precondition(lambda self: self.server.of("Job"))
    @rule(data=st.data(), ending=LIKELY_END)
    def a_run_ends(self, data: st.DataObject, ending: str) -> None:
        self._end_run(self._some(data, "Job"), ending)

    @precondition(lambda self: self.server.of("Job"))
    @rule(data=st.data(), with_pods=st.booleans())
    def a_job_is_deleted(self, data: st.DataObject, with_pods: bool) -> None:
        job = self._some(data, "Job")
        self.server.remove("Job", job["metadata"]["name"])
        self.changes += 1
        for pod in self._pods(job) if with_pods else ():
            self.server.remove("Pod", pod["metadata"]["name"])

    @precondition(lambda self: self.server.of("ModelRollout"))
    @rule(
        data=st.data(),
        kind=st.sampled_from(["Ready", "Stalled", "Reconciling", "none", "gone", "taken"]),
        seen=st.integers(0, 3),
    )
    def a_rollout_gets_on(self, data: st.DataObject, kind: str, seen: int) -> None:
        name = self._some(data, "ModelRollout")["metadata"]["name"]
        if kind == "gone":
            self.server.remove("ModelRollout", name)
            self.changes += 1
            return
        if kind == "taken":
            self._edit("ModelRollout", name, {"metadata": {"ownerReferences": None}})
            return
        reasons = {"Ready": "RolledOut", "Stalled": "RolledBack", "Reconciling": "RollingOut"}
        conditions = [
            {"type": held, "status": str(held == kind), "reason": reasons[kind], "message": f"it is {kind}"}
            for held in (reasons if kind in reasons else ())
        ]
        self._edit("ModelRollout", name, {"status": {"observedGeneration": seen, "conditions": conditions}})

    @rule(ratio=st.floats(0, 1), iteration=st.integers(0, 5), hardware=st.sampled_from(["a100", "h100"]))
    def progress_is_told(self, ratio: float, iteration: int, hardware: str) -> None:
        self.progress[hardware] = Progress(progress_ratio=ratio, iteration=iteration, message="Step")
        self.changes += 1

    @rule(seconds=st.sampled_from([0.3, 1, 31, 86400]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.changes += 1

    @rule()
    def garbage_is_collected(self) -> None:
        self.changes += 1
        self._collect_garbage()

    # What happens to the operator.

    @rule(kind=WATCHED, count=st.integers(1, 3))
    def events_arrive(self, kind: str, count: int) -> None:
        self.operator.deliver(kind, count)

    @rule()
    def the_operator_starts_again(self) -> None:
        self.operator = Operator(self.server)
        self.progress.clear()
        self.changes += 1

    @rule()
    def a_pass_that_sees_everything(self) -> None:
        for kind in KINDS:
            self.operator.deliver(kind)
        self._pass([])

    @rule(faults=st.lists(st.sampled_from(["ok", "before", "after", "killed before", "killed after"]), max_size=3))
    def a_pass_that_may_fail(self, faults: list[str]) -> None:
        self.changes += len(faults)
        self._pass(faults)

    # What holds.

    @invariant()
    def one_job_for_a_digest(self) -> None:
        for (_, hardware), names in self.names.items():
            assert len(names) == 1, f"{hardware}: {names}"

    @invariant()
    def writes_are_bounded(self) -> None:
        assert self.server.writes <= WRITES_PER_CHANGE * self.changes

    @invariant()
    def a_result_stays(self) -> None:
        stored = {item["hardware"]: item for item in self._status().get("variants", ())}
        for hardware, result in self.results.items():
            assert stored.get(hardware) == result
        self.results |= {key: item for key, item in stored.items() if item["state"] in FINISHED}

    @invariant()
    def the_conditions_agree(self) -> None:
        held = {item["type"]: item for item in self._status().get("conditions", ())}
        if not held:
            return
        true = [kind for kind in ("Ready", "Reconciling", "Stalled") if held[kind]["status"] == "True"]
        assert len(true) == 1, true
        if true == ["Stalled"]:
            assert held["Stalled"]["reason"] not in ("Running", "Starting", "Suspended", "TargetMet")

    def teardown(self) -> None:
        """Whatever happened: once the cluster is left alone, it comes to an end and stays there."""
        if not self.server.objects or sys.exc_info()[0]:
            return
        self._edit("PruneJob", "digits", {"spec": {"suspend": False}})
        for _ in range(3):
            self._settle()
            for job in self.server.of("Job"):
                if job["spec"].get("suspend") and "kueue.x-k8s.io/queue-name" in job["metadata"]["labels"]:
                    self._edit("Job", job["metadata"]["name"], {"spec": {"suspend": False}})
            self._settle()
            self._finish_jobs()
            for found in self.server.of("ModelRollout"):
                conditions = [
                    {"type": kind, "status": str(kind == "Ready"), "reason": "RolledOut", "message": "done"}
                    for kind in ("Ready", "Stalled")
                ]
                status = {"observedGeneration": found["metadata"]["generation"], "conditions": conditions}
                self._edit("ModelRollout", found["metadata"]["name"], {"status": status})
        self._settle()
        for found in self.server.of("ModelRollout") if self.taken else ():
            self._edit("ModelRollout", found["metadata"]["name"], {"metadata": {"ownerReferences": None}})
            self._settle()
        held = {item["type"]: item["status"] for item in self._status()["conditions"]}
        assert "True" in (held["Ready"], held["Stalled"]), self._status()
        assert self._status()["observedGeneration"] == self._prunejob()["metadata"]["generation"]
        assert all(item["state"] in FINISHED for item in self._status()["variants"])
        # A restart writes nothing.
        before = self.server.writes
        self.operator = Operator(self.server)
        self._pass([])
        assert self.server.writes == before

    # Machinery.

    def _pass(self, faults: list[str]) -> Plan | None:
        observation = self.operator.observe(self.progress)
        if observation is None:
            return None
        before = copy.deepcopy(observation.prunejob)
        with no_clock():
            made = plan(observation, self.now)
            again = plan(observation, self.now)
        assert made == again
        assert observation.prunejob == before, "a plan changes what it looks at"
        self._idempotent(observation, made)
        self._harmless(observation, made)
        self.server.faults = list(faults)
        try:
            self.operator.carry_out(made, observation.prunejob)
        except (StaleError, KubeError):
            pass
        except CrashedError:
            self.operator = Operator(self.server)
            self.progress.clear()
        finally:
            self.server.faults = []
        return made

    def _idempotent(self, observation: PruneJobObservation, made: Plan) -> None:
        """With its status stored and its writes not yet done, a plan says and wants the same again."""
        if made.status is None:
            return
        stored = PruneJobObservation(
            prunejob={**observation.prunejob, "status": made.status}, jobs=observation.jobs, pods=observation.pods,
            progress=observation.progress, rollouts=observation.rollouts, default_image=observation.default_image,
        )  # fmt: skip
        again = plan(stored, self.now)
        assert again.status == made.status
        assert again.actions == made.actions

    def _harmless(self, observation: PruneJobObservation, made: Plan) -> None:
        prunejob = PruneJob.model_validate(observation.prunejob)
        names = {job_name(prunejob, item): item.name for item in prunejob.spec.hardware}
        finished = {item["jobName"] for item in (observation.prunejob.get("status") or {}).get("variants") or ()
                    if item["state"] in FINISHED}  # fmt: skip
        for action in made.actions:
            assert not isinstance(action, DeleteObject) or action.kind not in ("PruneJob", "ModelRollout")
            if isinstance(action, PatchObject) and action.kind == "Job":
                assert action.name in names, "a Job of another life is not ours to change"
            if isinstance(action, CreateObject) and action.manifest["kind"] == "Job":
                name = action.manifest["metadata"]["name"]
                assert name not in finished, "what has a result is not run again"
                assert name not in observation.jobs
                key = (prunejob.metadata["uid"], names[name])
                self.names.setdefault(key, set()).add(name)

    def _settle(self) -> None:
        """Deliver everything and pass until nothing is written any more."""
        # The grace for reports that are late is over.
        self.now += timedelta(minutes=1)
        self.changes += 1
        for _ in range(PASSES_TO_SETTLE):
            before = self.server.writes
            collected = self._collect_garbage()
            self.a_pass_that_sees_everything()
            for hold in (
                self.one_job_for_a_digest,
                self.writes_are_bounded,
                self.a_result_stays,
                self.the_conditions_agree,
            ):
                hold()
            if self.server.writes == before and not collected:
                return
        raise AssertionError(f"still writing after {PASSES_TO_SETTLE} passes: {self._status()}")

    def _collect_garbage(self) -> bool:
        """Remove what belongs to nothing any more, as the garbage collector does; return whether there was any."""
        living = {item["metadata"]["uid"] for item in self.server.objects.values()}
        garbage = [
            place
            for place, item in self.server.objects.items()
            if (owners := item["metadata"].get("ownerReferences")) and not {owner["uid"] for owner in owners} & living
        ]
        for place in garbage:
            self.server.remove(*place)
        return bool(garbage)

    def _finish_jobs(self) -> None:
        for job in self.server.of("Job"):
            self._end_run(job, self.endings[job["metadata"]["labels"]["coppice.dev/hardware"]])
            self._settle()

    def _end_run(self, job: Json, ending: str) -> None:
        """End a run as the kubelet and the Job controller do, with no retry left."""
        if not _ended(job) and not job["spec"].get("suspend"):
            pods = self._live(job) or [self._add_pod(job)]
            self._end_pod(pods[-1], *ENDINGS[ending])
            self._end_job(job, *CONDITIONS.get(ENDINGS[ending][0], ("Failed", "BackoffLimitExceeded")))

    def _prunejob(self) -> Json:
        return self.server.objects["PruneJob", "digits"]

    def _spec(self) -> Json:
        return dict(self._prunejob()["spec"]) if self.server.objects else {}

    def _status(self) -> Json:
        return (self._prunejob().get("status") or {}) if self.server.objects else {}

    def _some(self, data: st.DataObject, kind: str) -> Json:
        names = sorted(item["metadata"]["name"] for item in self.server.of(kind))
        return self.server.objects[kind, data.draw(st.sampled_from(names))]

    def _pods(self, job: Json) -> list[Json]:
        label = "batch.kubernetes.io/job-name"
        return [pod for pod in self.server.of("Pod") if pod["metadata"]["labels"][label] == job["metadata"]["name"]]

    def _live(self, job: Json) -> list[Json]:
        return [pod for pod in self._pods(job) if pod["status"]["phase"] not in ("Succeeded", "Failed")]

    def _add_pod(self, job: Json) -> Json:
        self.changes += 1
        name = job["metadata"]["name"]
        labels = {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": name}
        owner = {"uid": job["metadata"]["uid"], "kind": "Job", "name": name, "controller": True}
        return self.server.put("Pod", {
            "metadata": {"name": f"{name}-{self.server.version}", "namespace": NAMESPACE, "labels": labels,
                         "ownerReferences": [owner]},
            "spec": {"nodeName": "gpu-7"},
            "status": {"phase": "Pending"},
        })  # fmt: skip

    def _code(self, pod: Json) -> int | None:
        for status in pod["status"].get("containerStatuses") or ():
            if "terminated" in status["state"]:
                return int(status["state"]["terminated"]["exitCode"])
        return None

    def _end_pod(self, pod: Json, code: int, message: str) -> None:
        state = {"terminated": {"exitCode": code, "message": message}}
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [{"name": "run", "state": state}]}
        self._edit("Pod", pod["metadata"]["name"], {"status": status})

    def _end_job(self, job: Json, kind: str, reason: str) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": timestamp(self.now)}
        self._edit("Job", job["metadata"]["name"], {"status": {"conditions": [condition]}})

    def _edit(self, kind: str, name: str, patch: Json) -> None:
        self.changes += 1
        self.server.put(kind, _merged(self.server.objects[kind, name], patch))


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=120,
    stateful_step_count=25,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


def test_the_watch_for_clocks_sees_them() -> None:
    for read in (datetime.now, date.today, time.time, time.monotonic, lambda: datetime.now(UTC)):
        with pytest.raises(AssertionError, match="reads a clock"), no_clock():
            read()
    with no_clock():
        timestamp(START)


@contextmanager
def no_clock() -> Iterator[None]:
    """Let nothing in here read a clock, by whatever name it has it."""
    clocks = {
        time.time,
        time.time_ns,
        time.monotonic,
        time.monotonic_ns,
        time.perf_counter,
        time.localtime,
        time.gmtime,
    }
    read: list[str] = []

    def see(frame: Any, event: str, function: Any) -> None:
        # The test's own library times garbage collection, which happens anywhere.
        if event != "c_call" or frame.f_globals.get("__name__", "").startswith("hypothesis."):
            return
        owner = getattr(function, "__self__", None)
        if function in clocks or (
            function.__name__ in ("now", "utcnow", "today") and isinstance(owner, type) and issubclass(owner, date)
        ):
            read.append(f"{function.__name__} in {frame.f_code.co_filename}:{frame.f_lineno}")

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        yield
    finally:
        sys.setprofile(before)
    assert not read, f"reads a clock: {read}"


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what never waits, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("the API server in memory never makes anybody wait")


def _kind(path: str) -> str:
    # /apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL[/NAME[/status]] or /api/VERSION/...
    plural = path.split("/namespaces/")[1].split("/")[1]
    return next(
        kind for kind in (*KINDS, "Event") if collection_path("v1", kind, NAMESPACE).rpartition("/")[2] == plural
    )


def _merged(target: Any, patch: Any) -> Any:
    """Return what RFC 7386 says."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _versionless(item: Json) -> Json:
    metadata = {key: value for key, value in item["metadata"].items() if key not in ("resourceVersion", "generation")}
    return {**item, "metadata": metadata}


def _ended(job: Json) -> bool:
    return any(item["type"] in ("Complete", "Failed") for item in job.get("status", {}).get("conditions") or ())
