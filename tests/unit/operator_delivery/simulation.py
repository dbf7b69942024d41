"""The in-memory fleet of the rollout's tests behind a branch in memory and a tool that applies it, as Flux does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import yaml

from coppice_api.modelrollout import GitState
from coppice_operator.delivery.change import Change, Outcome
from coppice_operator.delivery.component import Component, read
from coppice_operator.plan import Action, PatchObject, PublishToGit
from coppice_operator.rollout.observation import RolloutObservation
from tests.unit.operator_rollout.simulator import Object, Simulation, env_value, rollout

GIT = {"repository": "https://git.example.com/fleet.git", "path": "models/kustomization.yaml"}
EMPTY = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches: []\n"


def git_rollout(*names: str, git: Object | None = None, strategy: Object | None = None, **spec: Any) -> Object:
    """A ModelRollout that delivers through Git."""
    document = rollout(*names, strategy={"delivery": "Git", "git": {**GIT, **(git or {})}, **(strategy or {})}, **spec)
    document["metadata"]["uid"] = "uid-1"
    return document


class GitSimulation(Simulation):
    """As Simulation, with a branch between the operator and the fleet.

    Args:
        sync_seconds: How old a commit is when the tool applies it.
        server: What the server does with a change; Committed takes it.
        bury: Whether the outcome of a change, by number, is lost in a crash after the push.
    """

    def __init__(
        self,
        document: Object,
        fleet: list[Object],
        *,
        sync_seconds: float = 4,
        server: Callable[[GitSimulation], GitState] = lambda run: GitState.COMMITTED,
        bury: Callable[[int], bool] = lambda number: False,
        **options: Any,
    ) -> None:
        super().__init__(document, fleet, **options)
        self.sync_seconds, self.server, self.bury = sync_seconds, server, bury
        self.base = {name: env_value(workload) for name, workload in self.fleet.items()}
        self.commits: list[tuple[str, Any]] = [(EMPTY, None)]
        self.pushed_at = self.now - timedelta(days=1)
        self.changes: list[Change] = []
        self.proposed: Change | None = None
        self.outcome: Outcome | None = None
        self._synced = EMPTY

    @property
    def branch(self) -> str:
        """The component on the branch."""
        return self.commits[-1][0]

    def observe(self, answers: Any = None) -> RolloutObservation:
        return dataclasses.replace(super().observe(answers), published=self.outcome)

    def step(self) -> Any:
        self._tool()
        return super().step()

    def merge(self) -> None:
        """Merge what was proposed."""
        assert self.proposed is not None
        self._land(self.proposed)
        self.proposed = None

    def person(self, text: str) -> None:
        """Put another component on the branch."""
        self.commits.append((text, "person"))
        self.pushed_at = self.now

    def _write(self, action: Action) -> None:
        if isinstance(action, PatchObject):
            super()._write(action)
            return
        assert isinstance(action, PublishToGit), "with Git no target is written"
        change = action.change
        self.actions.append(action)
        states = {target["name"]: target for target in self.status["targets"]}
        for edit in change.edits:
            assert "previousValueSet" in states[edit.name], "changed before the status remembers what it held"
        number = len(self.changes)
        self.changes.append(change)
        state = GitState.OVERRIDDEN if self._taken_back(change) else self.server(self)
        if state is GitState.COMMITTED:
            self._land(change)
        elif state is GitState.PROPOSED:
            if self._wanted(change) == self.branch:
                state = GitState.COMMITTED
            else:
                self.proposed = change
        if self.bury(number):
            return
        told = {GitState.FAILED: "the server is down", GitState.OVERRIDDEN: "somebody took it back"}.get(state)
        self.outcome = Outcome(change.key, state, self.now, branch=change.branch, commit="c" * 40, message=told)

    def _taken_back(self, change: Change) -> bool:
        file, ours = Component(self.branch), [Component(text) for text, by in self.commits if by == change.uid]
        lost = [edit for edit in change.edits if not file.holds(edit)]
        return not change.back and any(earlier.holds(edit) for earlier in ours for edit in lost)

    def _wanted(self, change: Change) -> str:
        file = Component(self.branch)
        if not change.back:
            for edit in change.edits:
                file.give(edit)
            return file.text()
        first = next((index for index, (_, by) in enumerate(self.commits) if by == change.uid), None)
        past = Component(self.commits[first - 1][0]) if first else None
        for edit in change.edits:
            if file.holds(edit):
                file.restore(edit, past)
        return file.text(past)

    def _land(self, change: Change) -> None:
        wanted = self._wanted(change)
        if wanted != self.branch:
            self.commits.append((wanted, change.uid))
            self.pushed_at = self.now

    def _tool(self) -> None:
        if self._synced == self.branch or self.now - self.pushed_at < timedelta(seconds=self.sync_seconds):
            return
        self._synced = self.branch
        held = dict(self.base)
        for (_, name), body in read(self.branch).items():
            (container,) = yaml.safe_load(body)["spec"]["template"]["spec"]["containers"]
            held[name] = container["env"][0]["value"]
        for name, workload in self.fleet.items():
            if env_value(workload) == held[name]:
                continue
            env = workload["spec"]["template"]["spec"]["containers"][0]["env"]
            env[:] = [entry for entry in env if entry["name"] != "MODEL_URI"]
            if held[name] is not None:
                env.append({"name": "MODEL_URI", "value": held[name]})
            workload["metadata"]["generation"] += 1
            workload["status"]["updatedReplicas"] = 0
            self._changed[name] = self.now
