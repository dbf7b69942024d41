"""What a spec asks for happens, on a real control plane with a node that runs pods as processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from coppice_api.prunejob import PruneJobSpec
from devcluster import Cluster, ClusterOptions
from tests.builders import model_rollout, prune_job
from tests.integration.conftest import Kubectl
from tests.integration.operator.support import Operator, Space
from tests.waiting import wait_for

Json = dict[str, Any]
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "fleet-models"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}
RUN_SECONDS = 180.0
"""A run on a busy machine: most of it is four processes that import torch."""
EXACT = {
    "model__uri": "python://tests.integration.training.ranks:plain",
    "dataset__uri": "python://tests.integration.recovery.machine:data",
    "objective__energyReductionPercent": 50, "objective__maxAccuracyDropPoints": "12",
    "algorithm__maxIterations": 3,
    "algorithm__fineTune": {"epochs": 20, "finalEpochs": 1, "learningRate": "0.003", "batchSize": 32},
    "measurement__windowSeconds": 1,
}  # fmt: skip
"""A run that ends the same each time on the machine of `image/sitecustomize.py`."""


@pytest.fixture(scope="module")
def with_node(repository: Path) -> Iterator[Cluster]:
    sources = (repository, *(repository / name for name in ("api", "cli", "operator", "pruner")))
    image = (Path(__file__).parent / "image", *sources)
    with Cluster(ClusterOptions(name="spec", nodes=1, python_path=image)) as running:
        yield running


@pytest.fixture(scope="module")
def space(cluster: Cluster, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    """A namespace with an operator and no node, for all tests that need no pod."""
    kubectl.must("create", "namespace", "t-spec")
    operator = Operator(cluster, "t-spec", tmp_path_factory.mktemp("spec") / "operator.log")
    try:
        wait_for(operator.ready, "the operator")
        yield Space(kubectl, "t-spec", operator)
    finally:
        operator.process.terminate()
        operator.process.wait(timeout=20)
        kubectl.must("delete", "namespace", "t-spec", "--wait=false")


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


@pytest.mark.timeout(600)
def test_two_pods_under_torchrun_on_an_exact_machine_suspended_mid_run_prune_to_the_widths_of_one(
    on_node: Space, with_node: Cluster
) -> None:
    on_node.apply("two", **EXACT, hardware=[{"name": "default", "nodes": 2}])
    runs = f"volumes/**/runs/{on_node.name}"
    wait_for(
        lambda: list(with_node.directory.glob(f"{runs}/two/*/default/checkpoints/0001*")),
        "the first step",
        deadline_seconds=RUN_SECONDS,
    )
    on_node.must("patch", "prunejob", "two", "--type=merge", "-p", json.dumps({"spec": {"suspend": True}}))
    wait_for(lambda: on_node.items("pods") == [], "the end of the pods")
    wait_for(lambda: on_node.condition("Ready", "two")[1] == "Suspended", "the suspension")
    on_node.must("patch", "prunejob", "two", "--type=merge", "-p", json.dumps({"spec": {"suspend": False}}))
    wait_for(lambda: ended(on_node, "two"), "the end of two", deadline_seconds=RUN_SECONDS)
    on_node.apply("one", **EXACT)
    wait_for(lambda: ended(on_node, "one"), "the end of one", deadline_seconds=RUN_SECONDS)
    one, two = (result(on_node, with_node, name) for name in ("one", "two"))
    assert one["plan"]
    assert two == one
    (job,) = [item for item in on_node.items("jobs") if item["spec"]["completions"] == 2]
    assert job["status"]["succeeded"] == 2
    (service,) = on_node.items("services")
    assert service["spec"]["clusterIP"] == "None"
    assert service["metadata"]["ownerReferences"][0]["name"] == "two"
    pods = [pod for pod in on_node.items("pods") if pod["metadata"]["name"].startswith("two-")]
    told = [pod["status"]["containerStatuses"][0]["state"]["terminated"].get("message", "") for pod in pods]
    assert sorted(bool(message) for message in told) == [False, True]
    logs = [on_node.must("logs", pod["metadata"]["name"]) for pod in pods]
    assert all("going on after step" in log for log in logs)


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


def test_a_job_deleted_by_a_person_is_made_again_under_its_name(space: Space) -> None:
    space.apply("deleted", hardware=[{"name": "default", "nodes": 2}])
    wait_for(lambda: jobs_of(space, "deleted"), "the Job")
    (before,) = jobs_of(space, "deleted")
    space.must("delete", "job", before["metadata"]["name"], "--wait=false")

    def another() -> bool:
        found = jobs_of(space, "deleted")
        return bool(found) and found[0]["metadata"]["uid"] != before["metadata"]["uid"]

    wait_for(another, "the next Job")
    (after,) = jobs_of(space, "deleted")
    assert after["metadata"]["name"] == before["metadata"]["name"]
    # The Service was there already.
    assert len(space.items("services")) == 1


def test_a_suspended_run_gives_up_its_place_in_a_queue(space: Space) -> None:
    space.apply("queued", run__queueName="gpus")
    wait_for(lambda: jobs_of(space, "queued"), "the Job")
    (job,) = jobs_of(space, "queued")
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    space.must("patch", "prunejob", "queued", "--type=merge", "-p", json.dumps({"spec": {"suspend": True}}))
    wait_for(lambda: jobs_of(space, "queued") == [], "the end of the Job")
    wait_for(lambda: space.condition("Ready", "queued")[1] == "Suspended", "the suspension")
    space.must("patch", "prunejob", "queued", "--type=merge", "-p", json.dumps({"spec": {"suspend": False}}))
    wait_for(lambda: jobs_of(space, "queued"), "the next Job")
    assert jobs_of(space, "queued")[0]["spec"]["suspend"] is True


def jobs_of(space: Space, name: str) -> list[Json]:
    return space.items_of(name, "jobs")


CHANGES: dict[str, Any] = {
    "model": {"uri": "pvc://fleet-models/other"},
    "dataset": {"uri": "builtin://shapes100"},
    "objective": {"energyReductionPercent": 61},
    "algorithm": {"seed": 7},
    "hardware": [{"name": "default", "nodes": 2}],
    "measurement": {"pairs": 9},
    "output": {"uri": "pvc://fleet-models/elsewhere"},
    "run": {"queueName": "gpus"},
}


def test_every_edit_but_suspend_and_rollout_is_refused_by_name_with_what_to_do(kubectl: Kubectl) -> None:
    # A field that is added to the spec has to take a side.
    assert set(CHANGES) | {"suspend", "rollout"} == {to_camel(name) for name in PruneJobSpec.model_fields}
    kubectl.must("create", "-f", "-", stdin={**prune_job(), "metadata": {"name": "edited"}})
    for field, change in CHANGES.items():
        patch = json.dumps({"spec": {field: change}})
        refused = kubectl.run("patch", "prunejob", "edited", "--type=merge", "-p", patch)
        assert refused.returncode != 0, field
        assert f"spec.{field} is immutable" in refused.stderr
        assert "Create a new object under another name, or delete this one" in refused.stderr
    for change in ({"suspend": True}, {"rollout": {"targets": [{"name": "digits-a"}]}}, {"rollout": None}):
        kubectl.must("patch", "prunejob", "edited", "--type=merge", "-p", json.dumps({"spec": change}))


def test_what_no_operator_has_seen_yet_is_not_ready(kubectl: Kubectl) -> None:
    kubectl.must("create", "namespace", "unseen")
    for kind, document in (("prunejob", prune_job()), ("modelrollout", model_rollout())):
        kubectl.must("-n", "unseen", "create", "-f", "-", stdin=document)
        found = json.loads(kubectl.must("-n", "unseen", "get", kind, "digits", "-o", "json"))
        (condition,) = found["status"]["conditions"]
        assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")
    kubectl.must("delete", "namespace", "unseen", "--wait=false")
