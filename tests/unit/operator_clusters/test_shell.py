"""The operator's shell with a second cluster: what a write to it does to the others, and when its connection ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coppice_operator.cache import Cache
from coppice_operator.clusters.registry import Clusters
from coppice_operator.kube import FencedError, Kube, KubeError
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.plan import ApplyObject, JsonPatchObject, Plan
from coppice_operator.queue import WorkQueue
from coppice_operator.reconciler import Reconciler
from coppice_operator.writer import Writer
from tests.unit.operator_clusters.api_server import ApiServer, served, until
from tests.unit.operator_rollout.simulator import deployment, rollout

Json = dict[str, Any]
PATCH = ({"op": "remove", "path": "/x"},)


class Elsewhere:
    """A cluster that answers every write with an error, or takes it."""

    def __init__(self, error: KubeError | None = None) -> None:
        self.error, self.written = error, list[str]()
        self.kube, self.cache = self, Cache()

    async def apply(self, path: str, body: Json) -> Json:
        self.written.append(path.rpartition("/")[2])
        if self.error is not None:
            raise self.error
        return {**body, "metadata": {**body["metadata"], "uid": "u", "resourceVersion": "7"}}


class FakeClusters:
    """Connections by name, and what was said of them."""

    def __init__(self, **remotes: Elsewhere) -> None:
        self.remotes, self.said = remotes, list[tuple[str, int]]()

    def remote(self, _namespace: str, name: str) -> Elsewhere | None:
        return self.remotes.get(name)

    def failed(self, _namespace: str, name: str, error: KubeError) -> None:
        self.said.append((name, error.status))


def apply(name: str, cluster: str | None) -> ApplyObject:
    metadata = {"name": name, "namespace": "fleet"}
    return ApplyObject({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}, cluster)


async def carried_out(clusters: FakeClusters, *actions: ApplyObject | JsonPatchObject) -> list[str]:
    """Return what was written to the own cluster."""
    here = Elsewhere()
    writer = Writer(here, here.cache)  # type: ignore[arg-type]
    writer.clusters = clusters  # type: ignore[assignment]
    item = {"metadata": {"name": "r", "namespace": "fleet", "uid": "r", "resourceVersion": "1"}}
    await writer.carry_out(Plan(actions=actions), "ModelRollout", item)
    return here.written


@pytest.mark.parametrize("status", [0, 401])
async def test_a_cluster_without_an_answer_costs_one_try_and_the_others_are_written(status: int) -> None:
    clusters = FakeClusters(berlin=Elsewhere(KubeError(status, "no")), rome=Elsewhere())
    written = await carried_out(
        clusters, apply("a", "berlin"), apply("b", "berlin"), apply("c", None), apply("d", "rome")
    )
    assert (written, clusters.remotes["berlin"].written, clusters.remotes["rome"].written) == (["c"], ["a"], ["d"])
    assert clusters.said == [("berlin", status)]
    # What a write answers is known at once.
    assert clusters.remotes["rome"].cache.get("Deployment", ("fleet", "d"))


@pytest.mark.parametrize("status", [403, 422, 500])
async def test_what_a_cluster_refuses_is_its_targets_fault_and_told_when_the_others_are_written(status: int) -> None:
    clusters = FakeClusters(berlin=Elsewhere(KubeError(status, "no")), rome=Elsewhere())
    with pytest.raises(KubeError) as error:
        await carried_out(clusters, apply("a", "berlin"), apply("b", "berlin"), apply("d", "rome"))
    assert (error.value.status, clusters.said) == (status, [])
    assert (clusters.remotes["berlin"].written, clusters.remotes["rome"].written) == (["a", "b"], ["d"])


async def test_nothing_is_written_where_there_is_no_connection() -> None:
    assert await carried_out(FakeClusters(), apply("a", "berlin"), apply("c", None)) == ["c"]


async def test_who_may_not_write_any_more_writes_nowhere() -> None:
    clusters = FakeClusters(berlin=Elsewhere(FencedError(0, "not leading")), rome=Elsewhere())
    with pytest.raises(FencedError):
        await carried_out(clusters, apply("a", "berlin"), apply("d", "rome"))
    assert (clusters.said, clusters.remotes["rome"].written) == ([], [])


async def test_other_clusters_are_fenced_as_the_own_is() -> None:
    elsewhere = Kube(fence=lambda: 0.0).elsewhere(lambda: None, 1.0)  # type: ignore[arg-type, return-value]
    assert elsewhere._fence is not None
    assert elsewhere._fence() == 0.0


class Home(Kube):
    """The own cluster: a Secret, and every write as it was asked for."""

    def __init__(self, kubeconfig: str) -> None:
        super().__init__()
        self.secret = {
            "metadata": {"name": "berlin", "resourceVersion": "1", "annotations": {"coppice.dev/cluster": "rollouts"}},
            "data": {"kubeconfig": base64.b64encode(kubeconfig.encode()).decode()},
        }
        self.version = 10
        self.stored = document()
        self.statuses: list[Json] = []

    async def get(self, path: str, **query: str) -> Json:
        return self.secret

    async def list_all(self, path: str, **query: str) -> list[Json]:
        return []

    async def create(self, path: str, body: Json) -> Json:
        return {**body, "metadata": {**body["metadata"], "uid": "e", "resourceVersion": "99"}}

    async def replace(self, path: str, body: Json) -> Json:
        self.statuses.append(body["status"])
        return await self.merge(path, body)

    async def merge(self, path: str, body: Json) -> Json:
        self.version += 1
        metadata = {**self.stored["metadata"], **body.get("metadata", {}), "resourceVersion": str(self.version)}
        self.stored = {**self.stored, **body, "metadata": metadata}
        return self.stored


def document() -> Json:
    made = rollout(targets=[{"name": "a", "cluster": "berlin"}])
    made["metadata"] |= {"uid": "r", "resourceVersion": "1"}
    return {**made, "kind": "ModelRollout"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with served(tmp_path) as running:
        there = running.put("a")
        there |= {key: value for key, value in deployment("a").items() if key in ("spec", "status")}
        there["metadata"]["generation"] = 1
        yield running


async def test_a_connection_begins_with_a_rollout_and_ends_with_it(server: ApiServer) -> None:
    cache, queue, home = Cache(), WorkQueue(), Home(server.kubeconfig())
    cache.put("ModelRollout", document())
    reconciler = Reconciler(
        cache, queue, Writer(home, cache), OperatorMetrics(), home, default_image="coppice:test"
    )  # fmt: skip
    working = asyncio.create_task(reconciler.run())
    try:
        await until(lambda: any(request.startswith("PATCH") for request in server.requests), "the write")
        # Nothing was said before the cluster had answered, and of it only good.
        assert all(entry["reachable"] for status in home.statuses for entry in status["clusters"])
        assert home.statuses[0]["targets"][0]["cluster"] == "berlin"
        gone = cache.get("ModelRollout", ("fleet", "digits"))
        assert gone is not None
        cache.remove("ModelRollout", gone)
        reconciler.saw("ModelRollout", gone)
        connections = reconciler.clusters
        assert isinstance(connections, Clusters)
        await until(lambda: connections.remote("fleet", "berlin") is None, "the end of the connection")
        await until(lambda: server.open_watches == 0, "the end of its watch")
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("cluster-")]
