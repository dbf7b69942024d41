"""A fleet in six waves: a good model with the operator killed ten times, then a bad one that is taken back."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coppice_api.modelrollout import Wave
from coppice_cli.cluster import Cluster as Client
from coppice_cli.cluster import collection, connect
from coppice_operator.rollout.waves import cumulative_sizes, wave_of
from devcluster import Cluster, ClusterOptions
from tests.bench.rollout import fleet
from tests.bench.rollout.following import following
from tests.bench.rollout.log import WatchLog
from tests.builders import model_rollout
from tests.integration.operator.faults.world import World

TARGETS, QUICK_TARGETS = 300, 40
LIMIT, QUICK_LIMIT = 20, 5
KILLS, KILLS_BACK = 10, 3
KWOK_NODES = 1
WAVES = (1, "5%", "20%", "40%", "70%", "100%")
ILL_SECONDS = 60
"""Progress deadline: how long a bad target may take."""
DEADLINE_SECONDS = 1800.0
GOOD = ("pvc://fleet-models/good", "a" * 64)
BAD = ("pvc://fleet-models/bad", "b" * 64)
_CRDS = Path(__file__).parents[3] / "crds"
Json = dict[str, Any]


def bench(quick: bool) -> dict[str, Any]:
    """Return what it cost, what was held, and whether what was taken back is as it was."""
    count, limit = (QUICK_TARGETS, QUICK_LIMIT) if quick else (TARGETS, LIMIT)
    with contextlib.ExitStack() as stack:
        options = ClusterOptions(name="bench-rollout", kwok_nodes=KWOK_NODES, kwok_ill=_ill(fleet.name(count // 3)))
        cluster = stack.enter_context(Cluster(options))
        kubectl = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig)]
        for command in (
            ["apply", "--server-side", "-f", str(_CRDS)],
            ["wait", "--for=condition=Established", "crd", "--all"],
        ):
            subprocess.run([*kubectl, *command], check=True, capture_output=True)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        world = stack.enter_context(World(cluster, "fleet", directory))
        # Its connection was idle for minutes: it must open another to clean up.
        stack.callback(world.api.close)
        client = stack.enter_context(
            contextlib.closing(connect(kubeconfig=cluster.kubeconfig, context=None, namespace=world.name))
        )
        names = fleet.create(client, count)
        log = WatchLog()
        sizes = cumulative_sizes([Wave(targets=size) for size in WAVES], count)
        log.wave_of = {name: wave_of(index, sizes) for index, name in enumerate(names)}
        follow = (cluster.kubeconfig, world.name)
        _until(fleet.available(client), "the fleet")
        stack.enter_context(following(*follow, "deployments", fleet.APPS, log.heard))
        before = fleet.templates(client)
        _until(lambda: len(log._templates) == count, "the watch")
        forward = _forward(world, client, log, names, limit)
        middle = fleet.templates(client)
        back = _back(world, client, log, limit)
        after = fleet.templates(client)
    untouched = sum(middle[name] == before[name] for name in names)
    return {
        "targets": count,
        "waves": len(sizes),
        **forward,
        "limit_in_transition": limit,
        "not_updated": untouched,
        "rolled_back_identical": after == middle,
        "back": back,
        "nodes": "KWOK plays them; API server, etcd, scheduler and controllers are real",
    }


def _forward(world: World, client: Client, log: WatchLog, names: list[str], limit: int) -> Json:
    """A good model to everybody, the operator killed as the fleet fills."""
    log.begin(forward=True)
    begin, first_write, kills = time.monotonic(), len(world.proxy.writes), 0
    _create(client, "good", GOOD, limit)
    for number in range(1, KILLS + 1):
        due = number * len(names) // (KILLS + 1)
        _until(lambda: len(log.changes) >= due, f"{due} targets touched")  # noqa: B023
        world.operator.restart()
        kills += 1
    _until(lambda: _state(client, "good") == "RolledOut", "the end of the way forward")
    seconds = time.monotonic() - begin
    _until(lambda: log.moving() == 0, "the last event")
    if faults := log.faults(names):
        raise RuntimeError("; ".join(faults))
    writes = world.proxy.writes[first_write:]
    kinds: dict[str, int] = {}
    for write in writes:
        kinds[write.kind] = kinds.get(write.kind, 0) + 1
    return {
        "writes_per_target": round(len(writes) / len(names), 3),
        "template_changes_per_target": len(log.changes) / len(names),
        "max_in_transition": log.most_in_transition,
        "kills": kills,
        "forward_seconds": round(seconds, 1),
        "writes": kinds,
    }


def _back(world: World, client: Client, log: WatchLog, limit: int) -> Json:
    """A model with which one target of the fourth wave never becomes ready."""
    log.begin(forward=True)
    begin = time.monotonic()
    _create(client, "bad", BAD, limit, progressDeadlineSeconds=ILL_SECONDS)
    _until(lambda: _state(client, "bad") == "RollingBack", "the way back")
    touched = len(log.writes())
    most_forward, early = log.most_in_transition, log.early
    turned = len(log.changes)
    log.forward = False
    for number in range(1, KILLS_BACK + 1):
        due = turned + number * touched // (KILLS_BACK + 1)
        _until(lambda: len(log.changes) >= due, f"{due} changes")  # noqa: B023
        world.operator.restart()
    _until(lambda: _state(client, "bad") == "RolledBack", "the end of the way back")
    seconds = time.monotonic() - begin
    _until(lambda: log.moving() == 0, "the last event")
    order = [log.wave_of[name] for name, _ in log.changes[turned:]]
    if early or order != sorted(order, reverse=True):
        raise RuntimeError(f"not in order: {early or order}")
    return {
        "touched": touched,
        "max_in_transition": max(most_forward, log.most_in_transition),
        "kills": KILLS_BACK,
        "seconds": round(seconds, 1),
    }


def _create(client: Client, name: str, model: tuple[str, str], limit: int, **strategy: Any) -> None:
    document = model_rollout(
        models=[{"name": "default", "uri": model[0], "sha256": model[1]}],
        targets=[{"selector": {"matchLabels": {"fleet": fleet.MARK}}}],
        strategy={"waves": [{"targets": size} for size in WAVES], "maxUnavailable": limit, **strategy},
    )
    document["metadata"]["name"] = name
    client.create(collection("modelrollouts", client.namespace), document)


def _state(client: Client, name: str) -> str | None:
    item = client.get(f"{collection('modelrollouts', client.namespace)}/{name}")
    return (item.get("status") or {}).get("state")


def _ill(app: str) -> str:
    """Return what KWOK asks of a pod: whether it is of this target and serves the bad model."""
    uri, sha256 = BAD
    value = f'.value == "{uri}#sha256={sha256}"'
    return f'select(.metadata.labels.app == "{app}") | .spec.containers[].env[]? | select({value}) | .name'


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {DEADLINE_SECONDS:.0f} s")
        time.sleep(0.2)
