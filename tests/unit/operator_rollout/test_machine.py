"""What holds whatever a fleet does: a state machine whose rules are what clusters, people and Prometheus do.

Targets are of every kind. Two rollouts of two models may be there, the second replacing the first. Passes are cut off
after their status, and see workloads that are a few passes old; values change under them; verdicts come and go, and so
does a cluster that some of the targets are in. At each moment no more targets are between two models than may be. In
the end, once the world holds still, every rollout has ended, or waits for an ill target and ends once that is well,
and no target has a model that failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coppice_api.constants import Reason
from coppice_operator.rollout.analysis import Answer, Query
from coppice_operator.rollout.claims import FINISHED
from tests.builders import DIGEST
from tests.unit.operator_rollout.controllers import MAKERS, Object, env_value, give, hold
from tests.unit.operator_rollout.simulator import DENSE, PRUNED, Simulation, rollout
from tests.unit.operator_rollout.test_forward import ANALYSIS

NAMES = ("digits-a", "digits-b", "digits-c", "digits-d", "digits-e")
NEWER_DIGEST = "c" * 64
NEWER = f"pvc://fleet-models/runs/newer#sha256={NEWER_DIGEST}"
OURS = {DIGEST: PRUNED, NEWER_DIGEST: NEWER}
THEIRS = "pvc://theirs"
WAVES = [{"targets": 1, "pauseSeconds": 5}, {"targets": "60%", "approval": True}, {"targets": "100%"}]
WORLD_HOLDS_STILL = 600
BERLIN = ("digits-b", "digits-d")
"""In another cluster."""
NAME = st.sampled_from(NAMES)


def chosen(workload: Object) -> Object:
    """The entry of spec.targets for a workload."""
    inject = {"inject": {"storageUri": True}} if workload["kind"] == "InferenceService" else {}
    name = workload["metadata"]["name"]
    return {"kind": workload["kind"], "name": name, **inject, **({"cluster": "berlin"} if name in BERLIN else {})}


def serves(workload: Object, run: Simulation) -> bool:
    """Whether a workload is told to serve the model of a rollout."""
    uri = OURS[run.rollout["spec"]["models"][0]["sha256"]]
    return env_value(workload) == (uri.partition("#")[0] if workload["kind"] == "InferenceService" else uri)


class Fleet(RuleBasedStateMachine):
    """Workloads of every kind, one or two rollouts, and everybody who has a hand in them."""

    @initialize(
        limit=st.integers(1, 4), lag=st.sampled_from((0, 0, 1, 3)), unset=st.sets(NAME), analysed=st.booleans(),
        held=st.booleans(), makers=st.lists(st.sampled_from(MAKERS), min_size=len(NAMES), max_size=len(NAMES)),
    )  # fmt: skip
    def begin(
        self, limit: int, lag: int, unset: set[str], analysed: bool, held: bool, makers: list[Callable[..., Object]]
    ) -> None:
        self.limit, self.analysed, self.held = limit, analysed, held
        self.fleet = {
            name: make(name, None if name in unset else DENSE) for name, make in zip(NAMES, makers, strict=True)
        }
        self.before = {name: env_value(workload) for name, workload in self.fleet.items()}
        self.edited: set[str] = set()
        self.verdicts: dict[str, str] = {}
        self.sick: set[tuple[str, str]] = set()
        self.withdrawn: set[str] = set()
        self.runs: list[Simulation] = []
        self.lag = lag
        self.down: dict[str, str] = {}
        self.add("digits", DIGEST)

    def add(self, name: str, digest: str, **spec: Any) -> None:
        """Create a rollout to the whole fleet."""
        uri = OURS[digest].partition("#")[0]
        document = rollout(
            targets=[chosen(workload) for workload in self.fleet.values()],
            name=name, created=f"2026-11-01T11:0{len(self.runs)}:00Z",
            models=[{"name": "default", "uri": uri, "sha256": digest}],
            strategy={"waves": WAVES, "maxUnavailable": self.limit, "progressDeadlineSeconds": 30},
            **({"analysis": ANALYSIS} if self.analysed else {}), onFailure="Hold" if self.held else "Rollback", **spec,
        )  # fmt: skip
        document["metadata"]["uid"] = name
        run = Simulation(document, [], answer=self.answer, broken=self.broken, lag=self.lag)
        run.fleet, run.stamps = self.fleet, True
        run.cluster_of, run.down = dict.fromkeys(BERLIN, "berlin"), self.down
        if self.runs:
            # One cluster, one clock, one memory of what changed when, and one cache that lags behind.
            first = self.runs[0]
            run.now, run._changed, run._seen = first.now, first._changed, first._seen
        self.runs.append(run)

    def answer(self, query: Query) -> Answer:
        verdict = self.verdicts.get(query.key.target.name, "good")
        if verdict == "silent":
            return Answer(None, "no series")
        if query.key.check == "errors":
            return Answer(0.5 if verdict == "bad" else 0.0)
        return Answer({"energy": 1.0 if query.key.purpose == "baseline" else 0.4, "accuracy": 0.98}[query.key.check])

    def broken(self, name: str, value: str | None) -> bool:
        return (name, (value or "").partition("#")[0]) in self.sick

    # What the operator does.

    @rule(passes=st.integers(1, 6), which=st.integers(0, 1))
    def passes(self, passes: int, which: int) -> None:
        run = self.runs[which % len(self.runs)]
        for _ in range(passes):
            self.step(run)

    @rule(which=st.integers(0, 1))
    def dies_after_its_status(self, which: int) -> None:
        run = self.runs[which % len(self.runs)]
        run.lost = lambda _number: True
        self.step(run)
        run.lost = lambda _number: False

    def step(self, run: Simulation) -> None:
        run.siblings = tuple(other.rollout for other in self.runs if other is not run)
        run.step()
        for other in self.runs:
            other.now = run.now
        self.never_too_many()

    # What others do.

    @rule(name=NAME, value=st.sampled_from((THEIRS, DENSE)))
    def somebody_edits_the_model(self, name: str, value: str) -> None:
        give(self.fleet[name], value)
        self.edited.add(name)
        self.runs[0].rolls(name)

    @rule(name=NAME)
    def somebody_edits_something_else(self, name: str) -> None:
        if self.fleet[name]["kind"] == "InferenceService":
            # What it makes is KServe's to change.
            return
        container = self.fleet[name]["spec"]["template"]["spec"]["containers"][0]
        container["image"] = f"server:{self.fleet[name]['metadata']['generation']}"
        self.edited.add(name)
        self.runs[0].rolls(name)

    @rule(name=NAME, held=st.booleans())
    def somebody_stops_a_target_from_replacing_pods(self, name: str, held: bool) -> None:
        hold(self.fleet[name], held)

    @rule(name=NAME, verdict=st.sampled_from(("good", "bad", "silent")))
    def a_verdict_changes(self, name: str, verdict: str) -> None:
        self.verdicts[name] = verdict

    @rule(name=NAME, value=st.sampled_from((PRUNED, NEWER)), ill=st.booleans())
    def a_target_bears_a_model_or_not(self, name: str, value: str, ill: bool) -> None:
        (self.sick.add if ill else self.sick.discard)((name, value.partition("#")[0]))

    @rule(away=st.booleans())
    def a_cluster_goes_or_comes(self, away: bool) -> None:
        self.down.update({"berlin": "its API server cannot be reached"} if away else {})
        if not away:
            self.down.clear()

    # What people do to rollouts.

    @rule(which=st.integers(0, 1), wave=st.integers(1, 3))
    def a_wave_is_approved(self, which: int, wave: int) -> None:
        self.edit(which, approved=wave)

    @rule(which=st.integers(0, 1), paused=st.booleans())
    def a_rollout_is_paused(self, which: int, paused: bool) -> None:
        self.edit(which, paused=paused)

    @rule(which=st.integers(0, 1))
    def a_rollout_is_withdrawn(self, which: int) -> None:
        self.edit(which, withdrawn=True)

    @precondition(lambda self: len(self.runs) == 1)
    @rule(replaces=st.booleans())
    def a_newer_rollout_comes(self, replaces: bool) -> None:
        self.add("newer", NEWER_DIGEST, **({"replaces": "digits"} if replaces else {}))

    def edit(self, which: int, *, approved: int | None = None, **spec: bool) -> None:
        document = self.runs[which % len(self.runs)].rollout
        document["spec"].update(spec)
        if approved is not None:
            document["spec"]["strategy"]["approvedWave"] = approved
        document["metadata"]["generation"] += 1

    # What holds.

    @invariant()
    def never_too_many(self) -> None:
        for run in getattr(self, "runs", ()):
            assert run.most_in_transition <= self.limit
            moving = [
                target["name"]
                for target in run.status.get("targets", ())
                if serves(self.fleet[target["name"]], run)
                and target["state"] not in ("Updated", "RolledBack", "Blocked")
            ]
            # Updated targets on their way back have the model too, until it is their turn.
            assert run.status.get("failureReason") or len(moving) <= self.limit, moving

    def teardown(self) -> None:
        if not hasattr(self, "runs"):
            return
        self.verdicts = {name: verdict for name, verdict in self.verdicts.items() if verdict == "bad"}
        self.down.clear()
        for workload in self.fleet.values():
            hold(workload, False)
        for index in range(len(self.runs)):
            self.edit(index, approved=3, paused=False)
        self.stand_still()
        if any(run.state == Reason.TARGET_UNHEALTHY for run in self.runs):
            # A held rollout may leave a StatefulSet with a pod that never comes up, and the other waits until somebody
            # has seen to it, as it says.
            self.sick.clear()
            self.stand_still()
        for run in self.runs:
            assert run.state in FINISHED, f"{run.rollout['metadata']['name']} is still {run.state}"
            self.judge(run)

    def stand_still(self) -> None:
        """Let the operator work until every rollout has ended, or for long enough to say that one never does."""
        ended = 0
        for _ in range(WORLD_HOLDS_STILL):
            # One that has ended may turn round when what it waited for has ended too.
            ended = ended + 1 if all(run.state in FINISHED for run in self.runs) else 0
            if ended > 2:
                break
            for run in self.runs:
                self.step(run)

    def judge(self, run: Simulation) -> None:
        """Hold the end of a rollout against what it says of itself."""
        for target in run.status["targets"]:
            value, ours = env_value(self.fleet[target["name"]]), serves(self.fleet[target["name"]], run)
            if run.state == "RolledBack" and target["state"] != "Blocked":
                assert not ours, f"{target['name']} is left on a model that failed"
            untouched = not self.edited and len(self.runs) == 1
            if run.state == "RolledBack" and untouched:
                assert value == self.before[target["name"]]
            if run.state == "RolledOut" and untouched:
                assert ours


# A debugger's or a coverage tool's tracing makes it many times slower.
Fleet.TestCase.settings = settings(
    max_examples=10 if sys.gettrace() else 25, stateful_step_count=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
TestFleet = Fleet.TestCase
