"""Kueue's own scheduler and controllers admit what the operator queues.

Without Kueue's webhooks, which only a pod has certificates for, and with pods that no kubelet runs.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import Cluster, ClusterOptions, binaries
from tests.integration.conftest import Kubectl
from tests.integration.operator.support import Json, Space, operated, report
from tests.waiting import wait_for

QUEUE = "gpus"
GPU = "nvidia.com/gpu"
FLAVOR = "a100"
NODE_LABEL = {"example.com/gpu": FLAVOR}


pytestmark = pytest.mark.timeout(900)
"""The first one compiles Kueue, where nobody has yet."""


@pytest.fixture(scope="module")
def space(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    """A namespace with an operator and a queue that has one GPU."""
    program = binaries.find("kueue")
    directory = tmp_path_factory.mktemp("kueue")
    with Cluster(ClusterOptions(name="kueue")) as cluster, (directory / "kueue.log").open("wb") as log:
        kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
        for document in kueue_crds():
            kubectl.must("apply", "--server-side", "-f", "-", stdin=document)
        kubectl.must("apply", "--server-side", "-f", str(repository / "crds"))
        kubectl.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        controllers = subprocess.Popen([str(program), f"--kubeconfig={cluster.kubeconfig}"], stdout=log, stderr=log)
        try:
            with operated(cluster, kubectl, "t-kueue", directory / "operator.log") as found:
                for document in queues(found.name):
                    kubectl.must("apply", "-f", "-", stdin=document)
                wait_for(lambda: queue_is_active(found), "a queue that admits")
                yield found
        finally:
            controllers.terminate()
            controllers.wait(timeout=20)


def kueue_crds() -> list[Json]:
    """Return Kueue's CRDs in its stored version alone: converting from others is its webhook's part."""
    module = binaries.module_files("sigs.k8s.io/kueue", f"v{binaries.KUEUE_VERSION}")
    found = [yaml.safe_load(path.read_text()) for path in (module / "config/components/crd/bases").glob("*.yaml")]
    for crd in found:
        crd["spec"]["versions"] = [item for item in crd["spec"]["versions"] if item["storage"]]
    return found


def queues(namespace: str) -> list[Json]:
    """Return what an administrator makes: nodes of a kind, how much of them, and a queue for it in a namespace."""
    resource = {"name": GPU, "nominalQuota": "1"}
    group = {"coveredResources": [GPU], "flavors": [{"name": FLAVOR, "resources": [resource]}]}
    return [
        kueue("ResourceFlavor", FLAVOR, {"nodeLabels": NODE_LABEL}),
        kueue("ClusterQueue", "research", {"namespaceSelector": {}, "resourceGroups": [group]}),
        kueue("LocalQueue", QUEUE, {"clusterQueue": "research"}, namespace=namespace),
    ]


def kueue(kind: str, name: str, spec: Json, **metadata: str) -> Json:
    """Return one of Kueue's objects."""
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def queue_is_active(space: Space) -> bool:
    found = json.loads(space.must("get", "localqueue", QUEUE, "-o", "json"))
    return any(
        item["type"] == "Active" and item["status"] == "True" for item in found.get("status", {}).get("conditions", ())
    )


def queued(space: Space, name: str) -> None:
    space.apply(name, run__queueName=QUEUE, hardware=[{"name": "default", "resources": {"limits": {GPU: "1"}}}])
    wait_for(lambda: job(space, name), f"the Job of {name}")


def job(space: Space, name: str) -> Json | None:
    return next(iter(space.items_of(name, "jobs")), None)


def runs(space: Space, name: str) -> bool:
    return bool(space.items_of(name, "pods"))


def waits(space: Space, name: str) -> bool:
    found = job(space, name)
    words = space.condition("Ready", name)[2]
    return found is not None and found["spec"]["suspend"] and f"waiting for admission by the queue {QUEUE}" in words


def patched(space: Space, kind: str, name: str, spec: dict[str, Any]) -> None:
    space.must("patch", kind, name, "--type=merge", "-p", json.dumps({"spec": spec}))


def test_kueue_admits_one_run_after_the_other_and_takes_back_what_it_admitted(space: Space) -> None:
    queued(space, "first")
    wait_for(lambda: runs(space, "first"), "the pod of the run that Kueue admits")
    queued(space, "second")
    wait_for(lambda: waits(space, "second"), "the run for which there is no quota")
    passes = space.operator.passes()
    space.must("annotate", "prunejob", "second", "seen=again")
    wait_for(lambda: space.operator.passes() > passes, "a pass that leaves the Job alone")
    assert waits(space, "second")
    assert len(space.items("workloads")) == 2
    assert not runs(space, "second")
    admitted = job(space, "first")
    assert admitted is not None
    labels = [item["metadata"].get("labels", {}) for item in (admitted, admitted["spec"]["template"])]
    # One level: a label on the pods too would have Kueue's integration of pods count each of them again.
    assert ["kueue.x-k8s.io/queue-name" in item for item in labels] == [True, False]
    wait_for(lambda: "admission" not in space.condition("Ready", "first")[2], "other words: there is a pod now")
    # Kueue has written the flavor's nodes into the Job, and the operator leaves it so.
    assert admitted["spec"]["template"]["spec"]["nodeSelector"].items() >= NODE_LABEL.items()
    uid = admitted["metadata"]["uid"]

    # An administrator drains the queue: Kueue evicts, and admits again later.
    patched(space, "clusterqueue", "research", {"stopPolicy": "HoldAndDrain"})
    wait_for(lambda: waits(space, "first") and not runs(space, "first"), "the eviction")
    patched(space, "clusterqueue", "research", {"stopPolicy": "None"})
    wait_for(lambda: runs(space, "first"), "the pod of the run that is admitted again")
    again = job(space, "first")
    assert again is not None
    assert again["metadata"]["uid"] == uid

    # A run that ended gives its quota to the next.
    space.finish(0, report())
    wait_for(lambda: space.condition("TargetMet", "first")[0] == "True", "the result of the first")
    wait_for(lambda: runs(space, "second"), "the pod of the second")

    # A run that a person suspends gives its place up, and queues anew.
    patched(space, "prunejob", "second", {"suspend": True})
    wait_for(lambda: job(space, "second") is None, "the end of the Job")
    wait_for(lambda: space.condition("Ready", "second")[1] == "Suspended", "the suspension")
    queued(space, "third")
    wait_for(lambda: runs(space, "third"), "the run that takes its place")
    patched(space, "prunejob", "second", {"suspend": False})
    wait_for(lambda: waits(space, "second"), "its next turn in the queue")
    assert not runs(space, "second")
