"""Generated custom resources on the real API server: what it accepts never brings the operator down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kopf
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from coppice_operator.kube import Kube, KubeError, collection_path
from devcluster import Cluster
from tests.generated import model_rollouts, prune_jobs
from tests.integration.conftest import Kubectl
from tests.integration.operator.support import Operator
from tests.waiting import wait_for

Json = dict[str, Any]
NAMESPACE = "t-generated"
EACH = 60
DEPLOYMENT: Json = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "digits-a"},
    "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "a"}}, "template": {
        "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "server", "image": "i"}]}}},
}  # fmt: skip


def drawn(strategy: st.SearchStrategy[Json]) -> list[Json]:
    """Draw the same documents every time, from small to large."""
    found: list[Json] = []

    @settings(
        max_examples=EACH, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(strategy)
    def draw(document: Json) -> None:
        found.append(document)

    draw()
    return found


async def create(cluster: Cluster, documents: list[Json]) -> tuple[list[Json], list[str]]:
    """Create what the API server accepts; return it, and what was said of the rest."""
    accepted, refused = [], []
    info = kopf.ConnectionInfo(server=cluster.api_server_url, ca_path=cluster.ca_file, token=cluster.token)
    async with Kube(login=lambda: info) as kube:
        for number, document in enumerate(documents):
            document["metadata"] = {"name": f"odd-{number}"}
            path = collection_path(document["apiVersion"], document["kind"], NAMESPACE)
            try:
                accepted.append(await kube.create(path, document))
            except KubeError as error:
                refused.append(str(error))
    return accepted, refused


@pytest.fixture
def operator(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> Iterator[Operator]:
    kubectl.must("create", "namespace", NAMESPACE)
    running = Operator(cluster, NAMESPACE, tmp_path / "operator.log")
    try:
        wait_for(running.ready, "the operator")
        yield running
    finally:
        running.process.terminate()
        running.process.wait(timeout=20)
        kubectl.must("delete", "namespace", NAMESPACE, "--wait=false")


def test_whatever_the_api_server_accepts_is_seen_and_crashes_nothing(
    operator: Operator, cluster: Cluster, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubectl.must("-n", NAMESPACE, "create", "-f", "-", stdin=DEPLOYMENT)
    accepted, refused = asyncio.run(create(cluster, drawn(prune_jobs()) + drawn(model_rollouts())))
    kinds = [item["kind"] for item in accepted]
    # Otherwise the generator has lost the rules, and what follows says little.
    assert min(kinds.count("PruneJob"), kinds.count("ModelRollout")) > EACH // 2, "\n".join(refused)

    def unseen() -> list[str]:
        held = json.loads(kubectl.must("-n", NAMESPACE, "get", "prunejobs,modelrollouts", "-o", "json"))["items"]
        return [
            f"{item['kind']} {item['metadata']['name']}"
            for item in held
            if item.get("status", {}).get("observedGeneration") != item["metadata"]["generation"]
        ]

    wait_for(lambda: not unseen(), "a status on every object")
    assert operator.ready()
    log = (tmp_path / "operator.log").read_text()
    # What a Job would be refused for, the PruneJob is refused for.
    assert [results(operator).get(kind, 0) for kind in ("defect", "refused")] == [0, 0], log
    assert "Traceback" not in log


def results(operator: Operator) -> dict[str, float]:
    """Return how many passes ended how."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(operator.get("/metrics")):
        for sample in family.samples:
            if sample.name == "coppice_operator_reconcile_duration_seconds_count":
                result = sample.labels["result"]
                found[result] = found.get(result, 0) + sample.value
    return found
