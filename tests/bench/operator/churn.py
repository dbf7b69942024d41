"""`make bench-churn`: PruneJobs are created, suspended, edited and deleted at random, and then nothing may be left.

MINUTES= says for how long (20), SEED= which choices. Writes build/bench/churn.json; ends with 1 if a promise is broken:
memory that grows in the second half, an asyncio task too many, an object that nobody owns, a record in the operator.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from devcluster import Cluster, ClusterOptions
from tests.bench.machine import ROOT, machine
from tests.bench.operator import lives
from tests.bench.operator.candidates import NAMESPACE, ours
from tests.bench.operator.sizes import Process, prepare
from tests.bench.process import rss_bytes
from tests.builders import with_values
from tests.integration.operator.faults.api import Api, ApiError
from tests.integration.operator.support import report

MOST_ALIVE = 200
OPERATIONS_PER_SECOND = 10.0
MOST_GROWTH_RATIO = 0.05
"""Of memory in the second half."""
TASKS_MORE = 2
"""One scrape and one beat."""
SAMPLE_SECONDS = 2.0
QUIET_SECONDS = 10.0
_END_SECONDS = 120.0
_KINDS = ("prunejobs", "modelrollouts", "jobs", "pods", "services")
_ROLLOUT = {"targets": [{"name": "nobody"}], "strategy": {"approval": "Manual"}}


@dataclass
class Churn:
    """What people do, at random."""

    api: Api
    choices: random.Random
    done: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    made: int = 0

    def step(self) -> None:
        """Do one thing."""
        actions: dict[Callable[[], None], float] = {self._create: 4.0}
        if self.names:
            actions |= {self._suspend: 2.0, self._edit: 1.5, self._edit_what_must_not: 0.5}
            actions[self._delete] = 2.0 if len(self.names) < MOST_ALIVE else 8.0
        (action,) = self.choices.choices(list(actions), list(actions.values()))
        try:
            action()
            self.done[action.__name__.strip("_")] += 1
        except ApiError as error:
            self.done[f"{action.__name__.strip('_')}: {error.status}"] += 1

    def _create(self) -> None:
        name = f"churn-{self.made:06d}"
        self.made += 1
        values: dict[str, Any] = {
            "spec.hardware": [{"name": letter} for letter in "ab"[: self.choices.randint(1, 2)]],
            "spec.suspend": self.choices.random() < 0.2,
        }
        if self.choices.random() < 0.3:
            values["spec.run.queueName"] = "none"
        if self.choices.random() < 0.3:
            values["spec.rollout"] = _ROLLOUT
        self.api.create(NAMESPACE, "prunejobs", with_values(lives.TEMPLATE, {**values, "metadata.name": name}))
        self.names.append(name)

    def _suspend(self) -> None:
        self._merge(suspend=self.choices.random() < 0.5)

    def _edit(self) -> None:
        self._merge(rollout=self.choices.choice([None, _ROLLOUT, {**_ROLLOUT, "targets": [{"name": "somebody"}]}]))

    def _edit_what_must_not(self) -> None:
        self._merge(objective={"energyReductionPercent": self.choices.randint(1, 59)})

    def _merge(self, **spec: Any) -> None:
        self.api.merge(NAMESPACE, "prunejobs", self.choices.choice(self.names), {"spec": spec})

    def _delete(self) -> None:
        self.api.delete(NAMESPACE, "prunejobs", self.names.pop(self.choices.randrange(len(self.names))))


@dataclass(frozen=True)
class Sample:
    """The process at one moment."""

    second: float
    rss_bytes: int
    tasks: int
    held: int
    """Objects in the operator's memory."""


def growth_ratio(samples: Iterable[Sample]) -> float:
    """Return by how much a line through the resident sizes rises from its first moment to its last."""
    found = list(samples)
    seconds = [item.second for item in found]
    line = statistics.linear_regression(seconds, [item.rss_bytes for item in found])
    first, last = (line.intercept + line.slope * moment for moment in (seconds[0], seconds[-1]))
    return last / first - 1


def run(minutes: float, seed: int) -> dict[str, Any]:
    """Return what happened."""
    options = ClusterOptions(
        name="churn", kwok_nodes=lives.NODES, gpus_per_node=lives.GPUS_PER_NODE, kwok_run_seconds=lives.RUN_SECONDS,
        kwok_message=report(),
    )  # fmt: skip
    with Cluster(options) as cluster:
        candidate = ours()
        prepare(cluster, candidate.crds)
        operator, api = Process(candidate, cluster), Api(cluster)
        try:
            _until(lambda: _ready(operator), "the operator")
            return _churn(operator, Churn(api, random.Random(seed)), 60 * minutes)
        finally:
            operator.end()
            api.close()


def _churn(operator: Process, churn: Churn, seconds: float) -> dict[str, Any]:
    _live_once(churn.api)
    before, samples = _quiet(operator), list[Sample]()
    began, due = time.monotonic(), 0.0
    while (now := time.monotonic() - began) < seconds:
        churn.step()
        if now >= due:
            samples.append(_sample(operator, now))
            due = now + SAMPLE_SECONDS
        time.sleep(max(0.0, began + sum(churn.done.values()) / OPERATIONS_PER_SECOND - time.monotonic()))
    for name in churn.names:
        churn.api.delete(NAMESPACE, "prunejobs", name)
    left = _settle(lambda: {kind: _count(churn.api, kind) for kind in _KINDS})
    held = _settle(lambda: {"objects": _sample(operator, 0.0).held})
    after = _quiet(operator)
    half = [item for item in samples if item.second >= seconds / 2]
    return {
        "operations": dict(sorted(churn.done.items())),
        "prunejobs_made": churn.made,
        "operations_per_second": round(sum(churn.done.values()) / seconds, 1),
        "rss_bytes": {
            "before": before.rss_bytes, "half": half[0].rss_bytes, "end": samples[-1].rss_bytes,
            "most": max(item.rss_bytes for item in samples), "after": after.rss_bytes,
        },
        "second_half_growth_ratio": round(growth_ratio(half), 4),
        "tasks": {"before": before.tasks, "most": max(item.tasks for item in samples), "after": after.tasks},
        "tasks_left": max(0, after.tasks - before.tasks - TASKS_MORE),
        "objects_left": left,
        "objects_held_by_the_operator": held["objects"],
        "samples": [[round(item.second, 1), item.rss_bytes, item.tasks, item.held] for item in samples],
    }  # fmt: skip


def broken(result: dict[str, Any]) -> list[str]:
    """Return the promises that were not kept."""
    growth = result["second_half_growth_ratio"]
    found = [
        (growth >= MOST_GROWTH_RATIO, f"memory grew by {growth:.1%} in the second half"),
        (result["tasks_left"], f"{result['tasks_left']} asyncio tasks are left"),
        (any(result["objects_left"].values()), f"objects are left: {result['objects_left']}"),
        (result["objects_held_by_the_operator"], "the operator still holds objects that are gone"),
    ]
    return [text for wrong, text in found if wrong]


def _live_once(api: Api) -> None:
    """Have one PruneJob meet its target and go: every watch is open then, and all code loaded."""
    api.create(NAMESPACE, "prunejobs", with_values(lives.TEMPLATE, {"metadata.name": "first"}))
    _until(lambda: _state(api, "first") == "TargetMet", "the first PruneJob")
    api.delete(NAMESPACE, "prunejobs", "first")
    _settle(lambda: {kind: _count(api, kind) for kind in _KINDS})


def _state(api: Api, name: str) -> str:
    return str(((api.get(NAMESPACE, "prunejobs", name) or {}).get("status") or {}).get("state", ""))


def _quiet(operator: Process) -> Sample:
    """Return the process once it has had the same number of tasks for a while, longer than Kopf keeps idle ones."""
    sample = _sample(operator, 0.0)
    since = began = time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS and time.monotonic() - began < _END_SECONDS:
        time.sleep(1.0)
        now = _sample(operator, 0.0)
        since = since if now.tasks == sample.tasks else time.monotonic()
        sample = now
    return sample


def _settle(look: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return the last of looks at what must come to nothing."""
    deadline = time.monotonic() + _END_SECONDS
    while any((found := look()).values()) and time.monotonic() < deadline:
        time.sleep(1.0)
    return found


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {_END_SECONDS:.0f} s")
        time.sleep(0.1)


def _count(api: Api, kind: str) -> int:
    # The API server's own Service is nobody's orphan.
    return sum(item["metadata"]["name"] != "kubernetes" for item in api.list(NAMESPACE, kind))


def _ready(operator: Process) -> bool:
    try:
        return _get(operator, "/readyz") == "ok\n"
    except OSError:
        return False


def _sample(operator: Process, second: float) -> Sample:
    found = {
        (sample.name, sample.labels.get("kind", "")): sample.value
        for family in text_string_to_metric_families(_get(operator, "/metrics"))
        for sample in family.samples
        if sample.name in ("coppice_operator_tasks", "coppice_operator_cached_objects")
    }
    tasks = round(found.pop(("coppice_operator_tasks", "")))
    return Sample(second, rss_bytes(operator.pid), tasks, round(sum(found.values())))


def _get(operator: Process, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}{path}", timeout=30) as response:
        return str(response.read().decode())


def main() -> int:
    """Run what the environment asks for."""
    minutes, seed = float(os.environ.get("MINUTES") or 20), int(os.environ.get("SEED") or 1)
    target = ROOT / "build" / "bench" / "churn.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    result = {"bench": "churn", "machine": machine(), "minutes": minutes, "seed": seed, **run(minutes, seed)}
    target.write_text(json.dumps(result, indent=1) + "\n")
    print({key: value for key, value in result.items() if key != "samples"})
    problems = broken(result)
    for text in problems:
        print(f"broken: {text}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
