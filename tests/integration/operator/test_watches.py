"""What the operator knows when its watches fail it, and of which namespaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import Cluster
from tests.builders import prune_job
from tests.integration.conftest import Kubectl
from tests.integration.operator.replica import Replica
from tests.integration.operator.tcp_proxy import TcpProxy, port_of
from tests.waiting import wait_for


def apply(kubectl: Kubectl, space: str, *names: str) -> None:
    items = [prune_job(run__queueName="none") for _ in names]
    for item, name in zip(items, names, strict=True):
        item["metadata"]["name"] = name
    kubectl.must("-n", space, "apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": items})


def jobs(kubectl: Kubectl, space: str) -> int:
    return len(json.loads(kubectl.must("-n", space, "get", "jobs", "-o", "json"))["items"])


@pytest.fixture
def spaces(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[tuple[str, str, str]]:
    stem = "w-" + request.node.name.removeprefix("test_").replace("_", "-")[:40].rstrip("-")
    names = (f"{stem}-a", f"{stem}-b", f"{stem}-c")
    for name in names:
        kubectl.must("create", "namespace", name)
    yield names
    for name in names:
        kubectl.must("delete", "namespace", name, "--wait=false")


def test_what_is_deleted_while_the_watch_is_down_is_forgotten(
    cluster: Cluster, kubectl: Kubectl, spaces: tuple[str, str, str], tmp_path: Path
) -> None:
    space = spaces[0]
    with TcpProxy(port_of(cluster.api_server_url)) as line:
        kubeconfig = line.kubeconfig(cluster.kubeconfig, tmp_path / "kubeconfig")
        with Replica(kubeconfig, tmp_path / "log", "--namespace", space) as replica:
            wait_for(replica.ready, "the operator")
            apply(kubectl, space, "goes", "stays")
            wait_for(lambda: jobs(kubectl, space) == 2, "the Jobs")

            def cached(kind: str) -> float:
                return replica.value("coppice_operator_cached_objects", kind=kind)

            wait_for(lambda: cached("PruneJob") == 2 and cached("Job") == 2, "the caches")
            line.drop()
            kubectl.must("-n", space, "delete", "prunejob", "goes")
            # As the garbage collector would, which takes 40 s to learn of new kinds.
            kubectl.must("-n", space, "delete", "jobs", "-l", "coppice.dev/prunejob=goes")
            # Its history begins anew: a watch that wants to go on where it was is told 410 Gone.
            cluster.restart("kube-apiserver")
            wait_for(cluster.ready, "the API server")
            line.heal()
            wait_for(lambda: cached("PruneJob") == 1 and cached("Job") == 1, "the news")
            # Not by luck: a list found it, since no watch told.
            assert replica.value("coppice_operator_watch_missed_total", kind="PruneJob") == 1
            assert 'prunejob="goes"' not in replica.get("/metrics")
            apply(kubectl, space, "comes")
            wait_for(lambda: jobs(kubectl, space) == 2, "work as ever")
            # The Job that went with its PruneJob was not taken for one to make again.
            told = [line["name"] for line in replica.lines() if line.get("reason") == "JobCreated"]
            assert sorted(told) == ["comes", "goes", "stays"]


def test_the_namespaces_named_are_looked_after_and_no_other(
    cluster: Cluster, kubectl: Kubectl, spaces: tuple[str, str, str], tmp_path: Path
) -> None:
    one, two, other = spaces
    apply(kubectl, other, "theirs")
    apply(kubectl, one, "before")
    options = ("--namespace", one, "--namespace", two, "--log-level", "debug", "--profiling")
    with Replica(cluster.kubeconfig, tmp_path / "log", *options) as replica:
        wait_for(replica.ready, "the operator")
        apply(kubectl, two, "after")
        wait_for(lambda: (jobs(kubectl, one), jobs(kubectl, two)) == (1, 1), "a Job in each")
        kubectl.must("-n", one, "delete", "prunejob", "before")
        wait_for(lambda: replica.value("coppice_operator_cached_objects", kind="PruneJob") == 1, "the deletion")
        assert jobs(kubectl, other) == 0
        # What the line says about an object can be picked out by machine.
        told = [line for line in replica.lines() if line.get("reason") == "JobCreated"]
        assert {(line["kind"], line["namespace"], line["name"], line["level"]) for line in told} == {
            ("PruneJob", one, "before", "info"), ("PruneJob", two, "after", "info"),
        }  # fmt: skip
        assert "worker-0" in replica.get("/debug/tasks")
        assert "MiB traced" in replica.get("/debug/memory")


def test_profiling_is_off_unless_asked_for_and_a_pattern_is_no_namespace(
    cluster: Cluster, kubectl: Kubectl, spaces: tuple[str, str, str], tmp_path: Path
) -> None:
    with Replica(cluster.kubeconfig, tmp_path / "log", "--namespace", spaces[0]) as replica:
        wait_for(replica.ready, "the operator")
        assert "404" in replica.get("/debug/tasks")
    with Replica(cluster.kubeconfig, tmp_path / "refused", "--namespace", "team-*") as replica:
        assert replica.process.wait(timeout=30) == 2
        assert "team-*" in replica.log.read_text()
