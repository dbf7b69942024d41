"""Connections to other clusters: begun, kept true, renewed and closed, against a stand-in API server behind TLS."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from coppice_operator.clusters import registry, remote
from coppice_operator.clusters.registry import Clusters
from coppice_operator.clusters.view import ClusterView
from coppice_operator.kube import Kube, KubeError
from coppice_operator.queue import Key
from tests.unit.operator_clusters.api_server import PATH, ApiServer, served, until

Json = dict[str, Any]
DEPLOYMENTS = {"berlin": frozenset({("apps/v1", "Deployment")})}
ONE, OTHER = Key("ModelRollout", "fleet", "one"), Key("ModelRollout", "fleet", "other")


class Home(Kube):
    """The operator's own cluster, of which only the Secrets are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: dict[str, Json] = {}
        self.error: KubeError | None = None
        self.version = 0

    def put(self, name: str, kubeconfig: str) -> None:
        self.version += 1
        metadata = {"name": name, "resourceVersion": str(self.version)}
        self.secrets[name] = {
            "metadata": {**metadata, "annotations": {"coppice.dev/cluster": "rollouts"}},
            "data": {"kubeconfig": base64.b64encode(kubeconfig.encode()).decode()},
        }

    async def get(self, path: str, **query: str) -> Json:
        if self.error is not None:
            raise self.error
        name = path.rpartition("/")[2]
        if name not in self.secrets:
            raise KubeError(404, "not found")
        return self.secrets[name]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with served(tmp_path) as running:
        yield running


@pytest.fixture
def home(server: ApiServer) -> Home:
    made = Home()
    made.put("berlin", server.kubeconfig())
    return made


@pytest.fixture
async def clusters(home: Home, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clusters]:
    monkeypatch.setattr(remote, "FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(remote, "LAST_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(remote, "AGAIN_SECONDS", 0.02)
    before = asyncio.all_tasks()
    made = Clusters(home, lambda _: None)
    yield made
    await made.close()
    assert not {task for task in asyncio.all_tasks() - before if task.get_name().startswith("cluster-")}


def view(clusters: Clusters) -> ClusterView | None:
    return clusters.view("fleet", "berlin")


def fault(clusters: Clusters) -> str:
    seen = view(clusters)
    return (seen.fault or "") if seen else ""


def names(clusters: Clusters) -> list[str]:
    seen = view(clusters)
    return [item["metadata"]["name"] for item in seen.workloads] if seen and not seen.fault else []


async def test_what_a_cluster_has_is_listed_and_then_followed(clusters: Clusters, server: ApiServer) -> None:
    server.put("a")
    clusters.need(ONE, DEPLOYMENTS)
    assert view(clusters) is None
    await until(lambda: names(clusters) == ["a"], "the list")
    server.put("b")
    await until(lambda: names(clusters) == ["a", "b"], "what was made since")
    server.put("a", availableReplicas=3)
    await until(lambda: view(clusters).workloads[0]["status"].get("availableReplicas"), "a change")  # type: ignore[union-attr]
    server.delete("b")
    await until(lambda: names(clusters) == ["a"], "a deletion")
    assert server.requests.count(f"GET {PATH}") == 2


async def test_a_watch_that_cannot_go_on_is_followed_by_a_list(clusters: Clusters, server: ApiServer) -> None:
    server.put("a")
    server.put("b")
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: server.open_watches == 1, "the watch")
    del server.objects["a"]
    server.version += 5
    server.drop()
    await until(lambda: names(clusters) == ["b"], "what nobody told of")


async def test_an_object_as_long_as_any_that_etcd_holds_is_told_of(clusters: Clusters, server: ApiServer) -> None:
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: server.open_watches == 1, "the watch")
    server.put("a", note="x" * (3 << 20))
    await until(lambda: names(clusters) == ["a"], "it")


async def test_a_connection_lives_as_long_as_a_rollout_needs_it(clusters: Clusters, server: ApiServer) -> None:
    clusters.need(ONE, DEPLOYMENTS)
    clusters.need(OTHER, DEPLOYMENTS)
    await until(lambda: server.open_watches == 1, "one watch for both")
    clusters.need(ONE, {})
    assert clusters.remote("fleet", "berlin")
    clusters.need(OTHER, {})
    assert clusters.remote("fleet", "berlin") is None
    await until(lambda: server.open_watches == 0, "its end")


async def test_a_new_kubeconfig_makes_a_new_connection_and_nothing_is_forgotten(
    clusters: Clusters, server: ApiServer, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "SECRET_SECONDS", 0.05)
    server.put("a")
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: names(clusters) == ["a"], "the list")
    before = clusters.remote("fleet", "berlin")
    home.put("berlin", server.kubeconfig())
    await until(lambda: clusters.remote("fleet", "berlin") not in (before, None), "a new connection")
    assert not fault(clusters)
    await until(lambda: names(clusters) == ["a"], "the list")
    await until(lambda: server.open_watches == 1, "one watch")


async def test_a_token_that_has_expired_is_said_and_its_successor_taken(
    clusters: Clusters, server: ApiServer, home: Home
) -> None:
    server.put("a")
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: names(clusters) == ["a"], "the list")
    server.token = "second"
    there = clusters.remote("fleet", "berlin")
    assert there is not None
    with pytest.raises(KubeError) as error:
        await there.kube.apply(f"{PATH}/a", {})
    clusters.failed("fleet", "berlin", error.value)
    await until(lambda: "does not know the token or certificate of Secret berlin" in fault(clusters), "the fault")
    home.put("berlin", server.kubeconfig())
    await until(lambda: names(clusters) == ["a"], "the new token")


@pytest.mark.parametrize(
    ("status", "want"),
    [
        (401, "does not know the token or certificate of Secret berlin"),
        (403, "the user of Secret berlin may not list and watch Deployment there (403): give it the Role"),
        (404, "its API server has no Deployment"),
        (503, "its API server answers 503"),
    ],
)
async def test_what_a_cluster_refuses_is_said_until_it_does_not(
    clusters: Clusters, server: ApiServer, status: int, want: str
) -> None:
    server.put("a")
    server.answer = status
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: want in fault(clusters), want)
    assert "s3cr3t" not in fault(clusters)
    server.answer = 200
    await until(lambda: names(clusters) == ["a"], "the list")


async def test_a_cluster_that_goes_keeps_what_it_was_last_seen_to_have(
    clusters: Clusters, server: ApiServer, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("a")
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: names(clusters) == ["a"], "the list")
    server.answer = 500
    server.drop()
    await until(lambda: fault(clusters), "the fault")
    seen = view(clusters)
    assert seen is not None
    assert [item["metadata"]["name"] for item in seen.workloads] == ["a"]


async def test_a_cluster_that_says_nothing_is_given_up_after_a_while(
    clusters: Clusters, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "REQUEST_SECONDS", 0.3)
    server.silent = True
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: "does not answer in time" in fault(clusters), "the fault")


async def test_nobody_listening_is_said_without_the_address(clusters: Clusters, home: Home, server: ApiServer) -> None:
    home.put("berlin", server.kubeconfig().replace(server.url, "https://127.0.0.1:1"))
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: "cannot be reached" in fault(clusters), "the fault")
    assert "127.0.0.1" not in fault(clusters)


async def test_another_server_with_the_address_is_not_given_the_token(
    clusters: Clusters, home: Home, server: ApiServer, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    async with served(tmp_path / "other") as other:
        home.put("berlin", other.kubeconfig(token="first").replace(other.url, server.url))
        clusters.need(ONE, DEPLOYMENTS)
        await until(lambda: "certificate-authority-data vouches" in fault(clusters), "the fault")
    assert server.requests == []


async def test_a_missing_secret_is_said_and_its_arrival_noticed(
    clusters: Clusters, home: Home, server: ApiServer
) -> None:
    del home.secrets["berlin"]
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: "there is no Secret berlin" in fault(clusters), "the fault")
    home.put("berlin", "exec: {}")
    await until(lambda: "has no current-context" in fault(clusters), "another fault")
    home.put("berlin", server.kubeconfig())
    await until(lambda: view(clusters) == ClusterView(), "the connection")


async def test_a_secret_that_is_taken_away_ends_the_connection(
    clusters: Clusters, home: Home, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "SECRET_SECONDS", 0.05)
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: server.open_watches == 1, "the watch")
    home.error = KubeError(0, "the own API server is away")
    await asyncio.sleep(0.3)
    assert server.open_watches == 1
    home.error = None
    del home.secrets["berlin"]
    await until(lambda: "there is no Secret berlin" in fault(clusters), "the fault")
    await until(lambda: server.open_watches == 0, "the end of the watch")


async def test_a_write_without_an_answer_holds_the_cluster_until_it_lists_again(
    clusters: Clusters, server: ApiServer
) -> None:
    clusters.need(ONE, DEPLOYMENTS)
    await until(lambda: server.open_watches == 1, "the watch")
    error = KubeError(0, "PATCH")
    error.__cause__ = aiohttp.ClientConnectionError()
    clusters.failed("fleet", "berlin", error)
    assert "cannot be reached" in fault(clusters)
    await until(lambda: view(clusters) == ClusterView(), "the list")
