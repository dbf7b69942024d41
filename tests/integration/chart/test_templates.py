"""What the chart renders, and what it refuses to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from coppice_api.prunejob import HardwareClass, PruneJob
from coppice_operator.prunejob.manifest import job_manifest
from coppice_operator.prunejob.presets import parse_presets, placed
from tests.builders import prune_job
from tests.integration.chart.conftest import SYSTEM, Helm
from tests.integration.conftest import Kubectl

VALUES = {
    "nothing set": (),
    "a list of namespaces": ("namespaces={team-a,team-b}", "crds.enabled=false"),
    "images from one place, warned about": (
        "allowedImagePrefixes={coppice-pruner@}", f"runImage.digest=sha256:{'a' * 64}",
        "admission.validationActions={Warn,Audit}",
    ),
    "three replicas, spread": (
        "replicas=3", "podLabels.team=a", "podAnnotations.note=b", "imagePullSecrets[0].name=pull",
        "priorityClassName=system-cluster-critical", "nodeSelector.disk=ssd", "tolerations[0].operator=Exists",
        "topologySpreadConstraints[0].maxSkew=1", "topologySpreadConstraints[0].topologyKey=kubernetes.io/hostname",
        "topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
    ),
    "watched and fenced in": (
        "monitoring.enabled=true", "monitoring.additionalLabels.release=kube-prometheus-stack",
        "dashboards.enabled=true", "networkPolicies.enabled=true", "namespaces={team-a,team-b}", "replicas=2",
        "extraObjects[0].apiVersion=v1", "extraObjects[0].kind=ConfigMap", "extraObjects[0].metadata.name=mine",
    ),
    "a GPU of one's own, one preset less": (
        "gpuClasses.gh200.nodeSelector.nvidia\\.com/gpu\\.product=NVIDIA-GH200-480GB", "gpuClasses.t4=null",
    ),
    "as little as can be": (
        "leaderElection.enabled=false", "rbac.create=false", "serviceAccount.create=false", "serviceAccount.name=mine",
        "admission.enabled=false", "metrics.scrapeAnnotations=false", "crds.enabled=false",
    ),
}  # fmt: skip
REFUSED = {
    "a misspelt value": (("replicaCount=2",), "replicaCount"),
    "a prefix that others begin with too": (("allowedImagePrefixes={registry.example/team}",), "allowedImagePrefixes"),
    "a default image that the prefixes refuse": (
        ("allowedImagePrefixes={other/}",),
        "coppice-pruner:0.1.0 begins with",
    ),
    "replicas that would work at once": (("replicas=2", "leaderElection.enabled=false"), "leaderElection.enabled"),
    "a pattern of namespaces": (("namespaces={team-*}",), "namespaces"),
    "a GPU class that says nothing": (("--set-json=gpuClasses.gh200={}",), "gpuClasses"),
    "a GPU class with a field of pods": (("gpuClasses.a100.affinity.x=1",), "gpuClasses"),
}


def rendered(helm: Helm, *values: str) -> list[dict[str, Any]]:
    result = helm.template(*values)
    assert result.returncode == 0, result.stderr
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def deployment(helm: Helm, *values: str) -> dict[str, Any]:
    (found,) = [item for item in rendered(helm, *values) if item["kind"] == "Deployment"]
    return found


def test_lint_finds_nothing(helm: Helm) -> None:
    helm.must("lint", "--strict", str(helm.chart))


@pytest.mark.usefixtures("monitoring_crds")
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_api_server_accepts_all_of_it_under_strict_validation(
    helm: Helm, kubectl: Kubectl, values: tuple[str, ...]
) -> None:
    documents = rendered(helm, *values)
    for name in ("team-a", "team-b"):
        kubectl.must("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    result = kubectl.run(
        "apply", "--server-side", "--validate=strict", "--dry-run=server", "-f", "-",
        stdin={"apiVersion": "v1", "kind": "List", "items": documents},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # Pod Security warns of a Deployment whose pods it would refuse.
    assert "Warning" not in result.stderr


@pytest.mark.parametrize(("values", "want"), REFUSED.values(), ids=REFUSED)
def test_values_that_cannot_be_meant_are_refused(helm: Helm, values: tuple[str, ...], want: str) -> None:
    result = helm.template(*values)
    assert result.returncode != 0
    assert want in result.stderr


def test_the_crds_are_those_of_the_api_and_outlive_the_chart(helm: Helm, repository: Path) -> None:
    found = {item["metadata"]["name"]: item for item in rendered(helm) if item["kind"] == "CustomResourceDefinition"}
    generated = [yaml.safe_load(path.read_text()) for path in (repository / "crds").glob("*.yaml")]
    assert {item["metadata"]["name"] for item in generated} == found.keys()
    for item in generated:
        # Equal as JSON: no number has become another.
        assert json.dumps(found[item["metadata"]["name"]]["spec"], sort_keys=True) == json.dumps(
            item["spec"], sort_keys=True
        )
        assert found[item["metadata"]["name"]]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_rules_and_dashboards_are_those_of_the_repository_with_links_to_where_the_documents_are(
    helm: Helm, repository: Path
) -> None:
    documents = rendered(
        helm, "monitoring.enabled=true", "dashboards.enabled=true", "documentsUrl=https://wiki/coppice"
    )

    def moved(path: Path) -> str:
        return path.read_text().replace("https://coppice.dev/docs", "https://wiki/coppice")

    (rule,) = [item for item in documents if item["kind"] == "PrometheusRule"]
    assert rule["spec"] == yaml.safe_load(moved(repository / "alerts" / "coppice.yaml"))
    boards = [item["data"] for item in documents if item["kind"] == "ConfigMap"]
    assert {name: text for data in boards for name, text in data.items()} == {
        path.name: moved(path) for path in (repository / "dashboards").glob("*.json")
    }


def test_what_prometheus_selects_by_is_on_all_that_it_is_to_find(helm: Helm) -> None:
    labels = ("monitoring.enabled=true", "monitoring.additionalLabels.release=kube-prometheus-stack")
    found = [item for item in rendered(helm, *labels) if item["apiVersion"] == "monitoring.coreos.com/v1"]
    assert [item["kind"] for item in found] == ["PodMonitor", "PodMonitor", "PrometheusRule"]
    assert {item["metadata"]["labels"]["release"] for item in found} == {"kube-prometheus-stack"}


def test_without_the_prometheus_operator_the_pod_says_where_it_is_scraped(helm: Helm) -> None:
    template = deployment(helm)["spec"]["template"]
    port = template["spec"]["containers"][0]["ports"][0]
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true", "prometheus.io/path": "/metrics",
        "prometheus.io/port": str(port["containerPort"]),
    }  # fmt: skip
    assert "annotations" not in deployment(helm, "metrics.scrapeAnnotations=false")["spec"]["template"]["metadata"]


def test_the_monitors_choose_the_pods_that_they_are_for(helm: Helm) -> None:
    documents = rendered(helm, "monitoring.enabled=true")
    operator = deployment(helm)
    own, runs = [item["spec"] for item in documents if item["kind"] == "PodMonitor"]
    pod = operator["spec"]["template"]
    assert own["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    document = prune_job()
    document["metadata"] |= {"namespace": "team-a", "uid": "u"}
    job = job_manifest(PruneJob.model_validate(document), HardwareClass(name="a100"), default_image="i")
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert runs["selector"]["matchLabels"].items() <= labels.items()
    assert {item["key"] for item in runs["selector"]["matchExpressions"]} <= labels.keys()
    for monitor, spec in ((own, pod["spec"]), (runs, job["spec"]["template"]["spec"])):
        assert monitor["podMetricsEndpoints"][0]["port"] in {item["name"] for item in spec["containers"][0]["ports"]}
    # The operator names other namespaces than its own.
    assert own["podMetricsEndpoints"][0]["honorLabels"] is True


def test_runs_get_out_to_storage_and_not_to_the_metadata_service(helm: Helm) -> None:
    documents = rendered(helm, "networkPolicies.enabled=true", "namespaces={team-a}")
    (runs,) = [
        item for item in documents if item["kind"] == "NetworkPolicy" and item["metadata"]["namespace"] == "team-a"
    ]
    assert runs["spec"]["policyTypes"] == ["Ingress", "Egress"]
    (storage,) = [rule for rule in runs["spec"]["egress"] if "ipBlock" in rule.get("to", [{}])[0]]
    assert storage["to"][0]["ipBlock"]["except"] == ["169.254.0.0/16"]
    assert storage["ports"] == [{"protocol": "TCP", "port": 443}]


def test_nothing_gets_in_to_the_operator_but_scrapes_and_probes(helm: Helm) -> None:
    documents = rendered(helm, "networkPolicies.enabled=true", "namespaces={team-a}")
    (own,) = [item for item in documents if item["kind"] == "NetworkPolicy" and item["metadata"]["namespace"] == SYSTEM]
    labels = deployment(helm)["spec"]["template"]["metadata"]["labels"]
    assert own["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert own["spec"]["policyTypes"] == ["Ingress"]
    assert own["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": "metrics"}]}]


def test_replicas_are_spread_over_nodes_by_their_own_labels(helm: Helm) -> None:
    spread = "topologySpreadConstraints[0]"
    (constraint,) = deployment(
        helm, f"{spread}.maxSkew=1", f"{spread}.topologyKey=kubernetes.io/hostname",
        f"{spread}.whenUnsatisfiable=DoNotSchedule",
    )["spec"]["template"]["spec"]["topologySpreadConstraints"]  # fmt: skip
    assert constraint["labelSelector"]["matchLabels"] == deployment(helm)["spec"]["selector"]["matchLabels"]


def test_objects_of_ones_own_come_with_the_release(helm: Helm) -> None:
    mine = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": {"a": "b"}}
    assert mine in rendered(helm, f"--set-json=extraObjects={json.dumps([mine])}")
    assert mine not in rendered(helm)


def test_a_budget_for_disruptions_needs_a_second_replica(helm: Helm) -> None:
    assert not [item for item in rendered(helm) if item["kind"] == "PodDisruptionBudget"]
    assert [item for item in rendered(helm, "replicas=2") if item["kind"] == "PodDisruptionBudget"]


def test_a_list_of_namespaces_gives_no_right_in_the_whole_cluster(helm: Helm) -> None:
    documents = rendered(helm, "namespaces={team-a,team-b}")
    assert not [item for item in documents if item["kind"] == "ClusterRoleBinding"]
    bound = {item["metadata"]["namespace"] for item in documents if item["kind"] == "RoleBinding"}
    assert bound == {"team-a", "team-b", SYSTEM}


def test_every_value_is_explained_and_checked(helm: Helm) -> None:
    values = yaml.safe_load((helm.chart / "values.yaml").read_text())
    schema = json.loads((helm.chart / "values.schema.json").read_text())
    assert values.keys() == schema["properties"].keys() - {"global"}


def test_presets_of_gpu_classes_reach_the_jobs_of_runs_that_name_them(helm: Helm) -> None:
    selector = "gpuClasses.gh200.nodeSelector.nvidia\\.com/gpu\\.product"
    operator = deployment(helm, f"{selector}=NVIDIA-GH200-480GB", "gpuClasses.t4=null")
    arguments = operator["spec"]["template"]["spec"]["containers"][0]["args"]
    (option,) = [item for item in arguments if item.startswith("--hardware-presets=")]
    presets = parse_presets(option.partition("=")[2])
    assert {"a100", "h100", "l4", "gh200"} <= presets.keys()
    assert "t4" not in presets
    document = prune_job()
    document["metadata"] |= {"namespace": "team-a", "uid": "u"}
    prunejob, hardware = PruneJob.model_validate(document), HardwareClass(name="h100")
    job = job_manifest(prunejob, hardware, default_image="i", placed=placed(hardware, presets))
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
