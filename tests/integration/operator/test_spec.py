"""What a spec asks for happens, on a real control plane with a node that runs pods as processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster, ClusterOptions
from tests.integration.conftest import Kubectl
from tests.integration.operator.test_process import Operator, Space
from tests.waiting import wait_for

Json = dict[str, Any]
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "fleet-models"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}
EXACT = {
    "model__uri": "python://tests.integration.training.ranks:plain",
    "dataset__uri": "python://tests.integration.recovery.machine:data",
    "objective__energyReductionPercent": 50, "objective__maxAccuracyDropPoints": "12",
    "algorithm__maxIterations": 2,
    "algorithm__fineTune": {"epochs": 2, "finalEpochs": 1, "learningRate": "0.003", "batchSize": 32},
    "measurement__windowSeconds": 1,
}  # fmt: skip
"""A run that ends the same each time on the machine of `image/sitecustomize.py`."""


@pytest.fixture(scope="module")
def with_node(repository: Path) -> Iterator[Cluster]:
    sources = (repository, *(repository / name for name in ("api", "cli", "operator", "pruner")))
    image = (Path(__file__).parent / "image", *sources)
    with Cluster(ClusterOptions(name="spec", nodes=1, python_path=image)) as running:
        yield running


@pytest.fixture
def on_node(with_node: Cluster, repository: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace with an operator and a claim for what runs leave."""
    kubectl = Kubectl(with_node.kubectl, with_node.kubeconfig)
    kubectl.must("apply", "--server-side", "-f", str(repository / "crds"))
    kubectl.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    name = "t-" + request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    kubectl.must("create", "namespace", name)
    operator = Operator(with_node, name, tmp_path / "operator.log")
    try:
        wait_for(operator.ready, "the operator")
        space = Space(kubectl, name, operator)
        space.must("create", "-f", "-", stdin=CLAIM)
        yield space
    finally:
        operator.process.terminate()
        operator.process.wait(timeout=20)
        kubectl.must("delete", "namespace", name, "--wait=false")


def test_two_pods_under_torchrun_on_an_exact_machine_prune_to_the_widths_of_one(
    on_node: Space, with_node: Cluster
) -> None:
    on_node.apply("one", **EXACT)
    on_node.apply("two", **EXACT, hardware=[{"name": "default", "nodes": 2}])
    for name in ("one", "two"):
        wait_for(lambda name=name: ended(on_node, name), f"the end of {name}")
    one, two = (result(on_node, with_node, name) for name in ("one", "two"))
    assert one["plan"]
    assert two == one
    (job,) = [item for item in on_node.items("jobs") if item["spec"]["completions"] == 2]
    assert job["status"]["succeeded"] == 2
    (service,) = on_node.items("services")
    assert service["spec"]["clusterIP"] == "None"
    assert service["metadata"]["ownerReferences"][0]["name"] == "two"
    pods = [pod for pod in on_node.items("pods") if "two-" in pod["metadata"]["name"]]
    told = [pod["status"]["containerStatuses"][0]["state"]["terminated"].get("message", "") for pod in pods]
    assert sorted(bool(message) for message in told) == [False, True]


def ended(space: Space, name: str) -> bool:
    variants = space.prunejob(name).get("status", {}).get("variants") or [{}]
    assert variants[0].get("state") != "Failed", variants[0]["message"]
    return variants[0].get("state") in ("TargetMet", "TargetNotMet")


def result(space: Space, cluster: Cluster, name: str) -> Json:
    """Return what a run decided: its only bundle's plan and the figures of its status."""
    (manifest,) = cluster.directory.glob(f"volumes/**/runs/{space.name}/{name}/*/default/model-*/manifest.json")
    (variant,) = space.prunejob(name)["status"]["variants"]
    return {
        "plan": json.loads(manifest.read_text())["pruningPlan"],
        **{field: variant[field] for field in ("state", "iteration", "energyReductionPercent")},
    }
