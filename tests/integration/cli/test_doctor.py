"""`coppice doctor` against a real API server, a real Prometheus and NVML's stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from coppice_cli.main import app
from devcluster import Cluster, ClusterOptions
from tests import nvml_stand_in
from tests.builders import prune_job
from tests.integration.conftest import Kubectl

Json = dict[str, Any]
SYSTEM = "coppice-system"


@pytest.fixture(scope="module")
def clinic() -> Iterator[Cluster]:
    """A cluster of the doctor's own: it begins without our CRDs."""
    with Cluster(ClusterOptions(name="doctor", prometheus=True)) as running:
        yield running


@pytest.fixture(scope="module")
def kubectl(clinic: Cluster) -> Kubectl:
    return Kubectl(clinic.kubectl, clinic.kubeconfig)


def findings(kubectl: Kubectl, *arguments: str, kubeconfig: Path | None = None) -> dict[str, Json]:
    """Return what the doctor finds in the cluster, by what was looked at."""
    flags = ["--only", "cluster", "--json", "--kubeconfig", str(kubeconfig or kubectl.kubeconfig)]
    result = CliRunner().invoke(app, ["doctor", *flags, *arguments])
    document = json.loads(result.output)
    problems = [item for item in document["findings"] if item["verdict"] == "problem"]
    assert (result.exit_code, document["problems"]) == (int(bool(problems)), len(problems)), result.output
    assert all(item["mend"] for item in document["findings"] if item["verdict"] in ("problem", "warning"))
    return {item["check"]: item for item in document["findings"]}


def verdicts(found: dict[str, Json]) -> dict[str, str]:
    return {check: item["verdict"] for check, item in found.items()}


def install(kubectl: Kubectl, repository: Path, **container: Any) -> None:
    """Apply what the chart would, as far as the doctor looks: CRDs, a Deployment and its rights."""
    kubectl.must("apply", "--server-side", "-f", str(repository / "crds"))
    kubectl.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    labels = {"app.kubernetes.io/name": "coppice", "app.kubernetes.io/version": "0.1.0"}
    pod = {"serviceAccountName": "coppice", "containers": [{"name": "operator", "image": "i", **container}]}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "coppice", "namespace": SYSTEM, "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                 "template": {"metadata": {"labels": labels}, "spec": pod}},
    }  # fmt: skip
    kubectl.must("apply", "-f", "-", stdin=deployment)


def test_an_empty_cluster_lacks_our_kinds_and_an_operator_and_is_then_well(
    kubectl: Kubectl, repository: Path, tmp_path: Path
) -> None:
    found = findings(kubectl)
    assert found["cluster/api-server"]["verdict"] == "ok"
    assert found["cluster/crd/PruneJob"]["verdict"] == "problem"
    assert "helm install coppice" in found["cluster/crd/PruneJob"]["mend"]
    assert found["cluster/operator"]["verdict"] == "warning"
    assert verdicts(found)["cluster/kueue"] == verdicts(found)["cluster/gitops"] == "absent"

    kubectl.must("create", "namespace", SYSTEM)
    install(kubectl, repository)
    found = findings(kubectl)
    assert verdicts(found)["cluster/crd/PruneJob"] == verdicts(found)["cluster/crd/ModelRollout"] == "ok"
    assert "no replica that is ready" in found["cluster/operator"]["found"]
    rights = found["cluster/operator/rights"]
    assert rights["verdict"] == "problem"
    assert f"system:serviceaccount:{SYSTEM}:coppice may not list prunejobs.coppice.dev" in rights["found"]

    account = f"--serviceaccount={SYSTEM}:coppice"
    kubectl.must("create", "clusterrolebinding", "doctor-coppice", "--clusterrole=cluster-admin", account)
    status = {"status": {"replicas": 1, "readyReplicas": 1}}
    kubectl.must("-n", SYSTEM, "scale", "deployment", "coppice", "--replicas=0")
    kubectl.must(
        "-n", SYSTEM, "patch", "deployment", "coppice", "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )
    assert findings(kubectl)["cluster/operator/rights"]["verdict"] == "ok"

    install(kubectl, repository, args=["operator", "--namespace=fleet"])
    elsewhere = findings(kubectl, "-n", "default")["cluster/operator/rights"]
    assert "it works in fleet, not in default" in elsewhere["found"]
    assert findings(kubectl, "-n", "fleet")["cluster/operator/rights"]["verdict"] == "ok"


def test_a_crd_of_another_version_is_told(kubectl: Kubectl, repository: Path) -> None:
    documents = yaml.safe_load((repository / "crds" / "coppice.dev_prunejobs.yaml").read_text())
    properties = documents["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    objective = properties["spec"]["properties"]["objective"]["properties"]
    taken = objective.pop("maxLatencyMilliseconds")
    kubectl.must("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=documents)
    older = findings(kubectl)["cluster/crd/PruneJob"]
    assert (older["verdict"], "it lacks spec.objective.maxLatencyMilliseconds" in older["found"]) == ("problem", True)
    assert "helm upgrade" in older["mend"]
    objective |= {"maxLatencyMilliseconds": taken, "restarts": {"type": "integer"}}
    kubectl.must("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=documents)
    newer = findings(kubectl)["cluster/crd/PruneJob"]
    assert (newer["verdict"], "spec.objective.restarts" in newer["found"]) == ("warning", True)
    kubectl.must("apply", "--server-side", "--force-conflicts", "-f", str(repository / "crds"))


def test_somebody_without_rights_is_told_which_and_what_could_not_be_seen(
    kubectl: Kubectl, clinic: Cluster, repository: Path, tmp_path: Path
) -> None:
    kubectl.must("apply", "--server-side", "-f", str(repository / "crds"))
    kubectl.must("create", "serviceaccount", "ada")
    token = kubectl.must("create", "token", "ada").strip()
    hers = tmp_path / "kubeconfig"
    hers.write_text(clinic.kubeconfig.read_text().replace(clinic.token, token))
    found = findings(kubectl, kubeconfig=hers)
    assert "you may not create prunejobs.coppice.dev" in found["cluster/rights"]["found"]
    assert "--clusterrole=edit" in found["cluster/rights"]["mend"]
    # Discovery is everybody's: the kinds are there, though their fields cannot be compared.
    assert found["cluster/crd/PruneJob"]["verdict"] == "ok"
    assert verdicts(found)["cluster/nodes"] == verdicts(found)["cluster/operator"] == "unknown"
    ours = "prunejobs.coppice.dev,modelrollouts.coppice.dev,jobs.batch,pods,pods/log,events"
    verbs = "--verb=create,get,list,watch,patch"
    kubectl.must("create", "clusterrole", "prunes", verbs, f"--resource={ours}")
    kubectl.must("create", "rolebinding", "ada", "--clusterrole=prunes", "--serviceaccount=default:ada")
    assert findings(kubectl, kubeconfig=hers)["cluster/rights"]["verdict"] == "ok"


def test_what_a_prunejob_names_is_looked_for(kubectl: Kubectl, repository: Path, tmp_path: Path) -> None:
    kubectl.must("apply", "--server-side", "-f", str(repository / "crds"))
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(prune_job(
        run__credentialsSecretName="s3", run__queueName="gpus", run__runtimeClassName="nvidia",
        hardware=[{"name": "a100", "nodeSelector": {"nvidia.com/gpu.product": "A100"}}],
    )))  # fmt: skip
    found = findings(kubectl, "-f", str(file))
    missing = ("claim/fleet-models", "secret/s3", "queue/gpus", "runtime-class/nvidia", "hardware/a100")
    assert {name: found[f"cluster/{name}"]["verdict"] for name in missing} == dict.fromkeys(missing, "problem")
    assert "Kueue is not installed" in found["cluster/queue/gpus"]["found"]
    kubectl.must("create", "secret", "generic", "s3", "--from-literal=AWS_ACCESS_KEY_ID=k")
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "fleet-models"},
        "spec": {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    kubectl.must("create", "-f", "-", stdin=claim)
    node = {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "gpu-node", "labels": {"nvidia.com/gpu.product": "A100"}},
            "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]}}  # fmt: skip
    kubectl.must("create", "-f", "-", stdin=node)
    found = findings(kubectl, "-f", str(file))
    assert found["cluster/secret/s3"]["verdict"] == "ok"
    assert "ReadOnlyMany, and results are written to it" in found["cluster/claim/fleet-models"]["found"]
    assert "nvidia.com/gpu=:NoSchedule" in found["cluster/hardware/a100"]["found"]
    kubectl.must("delete", "node", "gpu-node")


def test_tools_that_are_there_are_found_and_told_what_they_lack(kubectl: Kubectl) -> None:
    def crd(group: str, kind: str, plural: str) -> Json:
        return {
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                     "versions": [{"name": "v1beta1", "served": True, "storage": True, "schema": {
                         "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]},
        }  # fmt: skip

    kinds = (("argoproj.io", "Application", "applications"), ("kueue.x-k8s.io", "LocalQueue", "localqueues"),
             ("kustomize.toolkit.fluxcd.io", "Kustomization", "kustomizations"))  # fmt: skip
    for kind in kinds:
        kubectl.must("create", "-f", "-", stdin=crd(*kind))
    kubectl.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    found = findings(kubectl)
    assert verdicts(found)["cluster/kueue"] == verdicts(found)["cluster/gitops/flux"] == "ok"
    assert (
        "argocd-cm lacks resource.customizations.health.coppice.dev_PruneJob" in found["cluster/gitops/argocd"]["found"]
    )
    kubectl.must("create", "namespace", "argocd")
    kubectl.must("-n", "argocd", "create", "configmap", "argocd-cm",
                 *(f"--from-literal=resource.customizations.health.coppice.dev_{kind}=x"
                   for kind in ("PruneJob", "ModelRollout")))  # fmt: skip
    assert findings(kubectl)["cluster/gitops/argocd"]["verdict"] == "ok"
    kubectl.delete_kinds(*(f"{plural}.{group}" for group, _, plural in kinds))


def test_a_prometheus_is_asked_whether_it_scrapes_us(kubectl: Kubectl, clinic: Cluster) -> None:
    assert clinic.prometheus_url
    found = findings(kubectl, "--prometheus", clinic.prometheus_url)
    assert found["prometheus/answers"]["verdict"] == "ok"
    # It has no targets: what asks of it would wait for ever.
    assert found["prometheus/scrapes"]["verdict"] == "problem"
    silent = findings(kubectl, "--prometheus", "http://ada:canary@127.0.0.1:1")
    assert silent["prometheus/answers"]["verdict"] == "problem"
    assert "canary" not in json.dumps(silent)
    wrong = findings(kubectl, "--prometheus", clinic.prometheus_url + "/nothing")
    assert "HTTP 404" in wrong["prometheus/answers"]["found"]


def test_a_server_that_does_not_answer_is_one_problem(clinic: Cluster, kubectl: Kubectl, tmp_path: Path) -> None:
    wrong = tmp_path / "kubeconfig"
    document = yaml.safe_load(clinic.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    wrong.write_text(yaml.safe_dump(document))
    found = findings(kubectl, kubeconfig=wrong)
    assert verdicts(found) == {"cluster/api-server": "problem"}


def test_nvml_is_opened_as_a_run_opens_it(tmp_path: Path) -> None:
    library = nvml_stand_in.build(tmp_path)

    def machine(**settings: object) -> dict[str, Json]:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
        environment |= {f"STAND_IN_{name}": str(value) for name, value in settings.items()}
        result = subprocess.run(
            [sys.executable, "-m", "coppice_cli.main", "doctor", "--only", "machine", "--json"],
            env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return {item["check"]: item for item in json.loads(result.stdout)["findings"]}

    found = machine()
    assert found["machine/nvml"]["found"].startswith("Stand-in GPU (GPU-00000000")
    assert found["machine/nvml"]["verdict"] == "ok"
    # A GPU that torch cannot use is worth a word: the model would run on the CPU.
    assert found["machine/cuda"]["verdict"] == "problem"
    hot = machine(THROTTLE=0x40)["machine/nvml"]
    assert (hot["verdict"], "thermal slowdown" in hot["found"]) == ("warning", True)
    mig = machine(MIG=1)["machine/nvml"]
    assert (mig["verdict"], "MIG" in mig["found"] and "whole GPU" in mig["mend"]) == ("warning", True)
    refused = machine(INIT_ERROR=4)["machine/nvml"]
    assert (refused["verdict"], "Insufficient Permissions" in refused["found"]) == ("warning", True)
