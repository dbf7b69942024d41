"""A cluster in memory: workloads that obey the plan's writes and become available, under virtual time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from coppice_api.modelrollout import TargetKey, TargetKind
from coppice_operator.clusters.view import ClusterView
from coppice_operator.conditions import timestamp
from coppice_operator.plan import Action, ApplyObject, Event, JsonPatchObject, PatchObject, Plan
from coppice_operator.rollout.analysis import Answer, Query, due_queries
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.plan import plan
from coppice_operator.rollout.record import read as read_record
from tests.builders import DIGEST, model_rollout
from tests.unit.operator_rollout import controllers
from tests.unit.operator_rollout.controllers import DENSE, Object, deployment, env_value

START = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
PRUNED = f"pvc://fleet-models/runs/pruned#sha256={DIGEST}"
PATIENCE = timedelta(seconds=60)
"""The progress deadline of Deployments that say since when they are complete."""
END_STATES = ("RolledOut", "RolledBack", "Held")
__all__ = ["DENSE", "Object", "deployment", "env_value"]


def rollout(*names: str, created: str = "2026-11-01T11:00:00Z", name: str = "digits", **spec: Any) -> Object:
    """A ModelRollout of the namespace `fleet` with these targets."""
    if names:
        spec["targets"] = [{"name": target} for target in names]
    document = model_rollout(**spec)
    document["metadata"] = {"name": name, "namespace": "fleet", "generation": 1, "creationTimestamp": created}
    return document


def condition(document: Object, kind: str) -> Object:
    """One condition of a rollout."""
    return next(entry for entry in document["status"]["conditions"] if entry["type"] == kind)


class Simulation:
    """One rollout and its fleet.

    Args:
        document: The ModelRollout.
        fleet: Its Deployments.
        answer: What Prometheus says.
        lost: Whether the actions of a pass, by number, are lost in a crash after the status was written.
        broken: Whether a Deployment with a value never becomes available.
        ready_seconds: How long a Deployment takes to become available.
        lag: How many passes old the Deployments are that a pass sees.
    """

    def __init__(
        self,
        document: Object,
        fleet: list[Object],
        *,
        answer: Callable[[Query], Answer] = lambda query: Answer(1.0),
        lost: Callable[[int], bool] = lambda number: False,
        broken: Callable[[str, str | None], bool] = lambda name, value: False,
        ready_seconds: float = 3,
        lag: int = 0,
    ) -> None:
        self.rollout = document
        self.fleet = {entry["metadata"]["name"]: entry for entry in fleet}
        self.siblings: tuple[Object, ...] = ()
        self.prunejobs: tuple[Object, ...] = ()
        self.missing_kinds: Mapping[TargetKind, str] | None = None
        self.answer, self.lost, self.broken = answer, lost, broken
        self.ready_seconds = ready_seconds
        self.cluster_of: dict[str, str] = {}
        """Clusters of the Deployments, by name, that are not in the operator's own."""
        self.down: dict[str, str] = {}
        """Clusters that cannot be reached now, and why; what happens in them goes on."""
        self.lag = lag
        self.stamps = False
        """Whether Deployments say since when they are complete, as real ones do."""
        self.now = START
        self.passes = 0
        self.status_writes = 0
        self.record_writes = 0
        self.actions: list[Action] = []
        self.events: list[Event] = []
        self.queries: list[Query] = []
        self.most_in_transition = 0
        self._changed: dict[str, datetime] = {}
        self._seen: list[list[tuple[str, Object]]] = []

    @property
    def status(self) -> Object:
        """The stored status."""
        status: Object = self.rollout.get("status", {})
        return status

    @property
    def state(self) -> str | None:
        """The stored reason."""
        return self.status.get("state")

    def values(self) -> dict[str, str | None]:
        """What every Deployment's MODEL_URI holds."""
        return {name: env_value(workload) for name, workload in self.fleet.items()}

    def observe(self, answers: Mapping[Any, Answer] | None = None) -> RolloutObservation:
        """What a pass sees: copies, so that a plan that changes its input is found out."""
        return RolloutObservation(
            rollout=copy.deepcopy(self.rollout),
            siblings=self.siblings,
            prunejobs=self.prunejobs,
            missing_kinds=self.missing_kinds,
            workloads=self._shown(None),
            clusters={
                cluster: ClusterView(self._shown(cluster), self.down.get(cluster))
                for cluster in sorted(set(self.cluster_of.values()))
            },
            answers=answers or {},
        )

    def _shown(self, cluster: str | None) -> tuple[Object, ...]:
        seen = self._seen[0] if self.lag and self._seen else self._there()
        return tuple(copy.deepcopy(item) for name, item in seen if self.cluster_of.get(name) == cluster)

    def step(self) -> Plan:
        """One pass and the second after it."""
        self._controllers()
        if self.lag:
            self._seen[:] = [*self._seen, copy.deepcopy(self._there())][-self.lag - 1 :]
        asked = due_queries(self.observe(), self.now)
        self.queries += asked
        made = plan(self.observe({query.key: self.answer(query) for query in asked}), self.now)
        number, self.passes = self.passes, self.passes + 1
        if made.status is not None and made.status != self.rollout.get("status"):
            self.rollout["status"] = made.status
            self.status_writes += 1
        if not self.lost(number):
            for action in made.actions:
                self._write(action)
            self.events += made.events
        targets = self.status.get("targets", [])
        self.most_in_transition = max(
            self.most_in_transition, sum(target["state"] in ("Updating", "RollingBack") for target in targets)
        )
        self.now += timedelta(seconds=min(made.requeue_after_seconds or 1.0, 1.0))
        return made

    def run(self, until: Callable[[], bool] | None = None, limit: int = 600) -> Simulation:
        """Step until a condition holds (default: finished).

        Raises:
            AssertionError: If it does not come to hold within `limit` passes.
        """
        done = until or (lambda: self.state in END_STATES)
        for _ in range(limit):
            self.step()
            if done():
                return self
        raise AssertionError(f"still {self.state} after {limit} passes: {condition(self.rollout, 'Ready')}")

    def settle(self) -> Simulation:
        """Step until a pass changes nothing."""
        return self.run(until=self.stable)

    def stable(self) -> bool:
        """Whether planning again at this moment gives the stored status and writes nothing."""
        made = plan(self.observe(), self.now)
        return made.status == self.rollout.get("status") and not made.actions and not made.events

    def reasons(self) -> list[str]:
        """Reasons of the Events so far."""
        return [event.reason for event in self.events]

    def rolls(self, name: str) -> None:
        """A Deployment's spec was changed, by whomever: its pods are made anew."""
        controllers.roll(self.fleet[name])
        self._changed[name] = self.now

    def _controllers(self) -> None:
        for name, workload in self.fleet.items():
            if controllers.settled(workload):
                continue
            changed = self._changed[name]
            ready = self.now - changed >= timedelta(seconds=self.ready_seconds)
            done = ready and not self.broken(name, env_value(workload))
            controllers.play(workload, done)
            if workload["kind"] != "Deployment" or not self.stamps:
                continue
            conditions = workload["status"]["conditions"]
            if done:
                conditions[1:] = [{"type": "Progressing", "lastUpdateTime": timestamp(self.now)}]
            elif self.now - changed > PATIENCE:
                conditions[1:] = [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]

    def _there(self) -> list[tuple[str, Object]]:
        """What there is: the fleet, and what is made for it, by the name of the target."""
        return [(name, item) for name, workload in self.fleet.items() for item in controllers.with_parts(workload)]

    def _write(self, action: Action) -> None:
        if isinstance(action, PatchObject):
            self.rollout["metadata"].setdefault("annotations", {}).update(action.patch["metadata"]["annotations"])
            self.record_writes += 1
            return
        self.actions.append(action)
        assert isinstance(action, ApplyObject | JsonPatchObject)
        name = action.manifest["metadata"]["name"] if isinstance(action, ApplyObject) else action.name
        assert action.cluster == self.cluster_of.get(name)
        assert action.cluster not in self.down, "written to a cluster that is known to be down"
        stored = next(target for target in self.status["targets"] if target["name"] == name)
        assert stored["state"] in ("Updating", "RollingBack")
        assert "previousValueSet" in stored, "touched before the status remembers what it held"
        known = read_record(self.rollout["metadata"])
        key = TargetKey(name, TargetKind(self.fleet[name]["kind"]), action.cluster)
        assert known is not None and key in known.held, "touched before it is remembered beside it"
        workload = self.fleet[name]
        before = copy.deepcopy(workload["spec"])
        if isinstance(action, ApplyObject):
            self._apply(workload, action.manifest)
        else:
            self._patch(workload, action.patch)
        if workload["spec"] != before:
            self.rolls(name)

    @staticmethod
    def _apply(workload: Object, manifest: Object) -> None:
        assert workload["kind"] == manifest["kind"] != "InferenceService", "its minimal CRD would lose the rest of spec"
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        assert container["name"] == "server"
        (wanted,) = container["env"]
        assert wanted["name"] == "MODEL_URI"
        controllers.give(workload, wanted["value"])

    @staticmethod
    def _patch(workload: Object, patch: tuple[Object, ...]) -> None:
        for operation in patch:
            *parents, last = operation["path"].strip("/").split("/")
            node: Any = workload
            key: Any = int(last) if last.isdigit() else last
            try:
                for part in parents:
                    node = node[int(part)] if part.isdigit() else node[part]
                if operation["op"] == "add":
                    node[key] = operation["value"]
                    continue
                found = node[key]
            except (IndexError, KeyError):
                # Refused as a whole, as a test that fails: somebody has changed it in between.
                return
            if operation["op"] == "test":
                if found != operation["value"]:
                    return
            elif operation["op"] == "replace":
                node[key] = operation["value"]
            else:
                assert operation["op"] == "remove"
                del node[key]
