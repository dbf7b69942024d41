"""A control plane of the chart's own: what it installs holds for the whole cluster and would disturb other tests."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster, ClusterOptions, binaries
from tests.integration.conftest import Kubectl

SYSTEM = "coppice-system"
RELEASE = "coppice"
Json = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test the time to compile helm, where nobody has yet."""
    for item in items:
        if "integration/chart" in item.nodeid:
            item.add_marker(pytest.mark.timeout(900))


@dataclass(frozen=True)
class Helm:
    """Runs helm with this repository's chart."""

    program: Path
    kubeconfig: Path
    chart: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run helm."""
        return subprocess.run(
            [str(self.program), *arguments], capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )  # fmt: skip

    def must(self, *arguments: str) -> str:
        """Run helm and return its output; fail the test when it fails."""
        result = self.run(*arguments)
        assert result.returncode == 0, f"helm {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def template(self, *values: str) -> subprocess.CompletedProcess[str]:
        """Render the chart; `values` are those of --set, or whole options."""
        options = [item for value in values for item in ((value,) if value.startswith("--") else ("--set", value))]
        return self.run("template", RELEASE, str(self.chart), "--namespace", SYSTEM, *options)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real control plane without our CRDs."""
    with Cluster(ClusterOptions(name="chart")) as running:
        yield running


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Kubectl:
    """kubectl against that cluster, as its administrator."""
    tool = Kubectl(cluster.kubectl, cluster.kubeconfig)
    # The operator's pod must pass the strictest standard.
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    metadata = {"name": SYSTEM, "labels": labels}
    tool.must("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return tool


@pytest.fixture(scope="session")
def monitoring_crds(kubectl: Kubectl) -> None:
    """The Prometheus operator's own CRDs."""
    files = binaries.module_files("github.com/prometheus-operator/prometheus-operator", "v0.85.0")
    for name in ("podmonitors", "prometheusrules"):
        path = files / "example" / "prometheus-operator-crd" / f"monitoring.coreos.com_{name}.yaml"
        kubectl.must("apply", "--server-side", "-f", str(path))
        kubectl.must("wait", "--for=condition=Established", f"crd/{name}.monitoring.coreos.com", "--timeout=30s")


@pytest.fixture(scope="session")
def helm(cluster: Cluster, repository: Path) -> Helm:
    """The real helm."""
    return Helm(binaries.find("helm"), cluster.kubeconfig, repository / "charts" / "coppice")


@pytest.fixture(scope="module")
def installed(helm: Helm, kubectl: Kubectl) -> Iterator[str]:
    """The chart, installed for every namespace; gone after the module but for its CRDs."""
    helm.must("install", RELEASE, str(helm.chart), "--namespace", SYSTEM,
              "--set-json", 'allowedImagePrefixes=["coppice-pruner:","registry.example/team/"]',
              "--set-json", 'allowedUriPrefixes=["pvc://fleet-models/","s3://team/"]')  # fmt: skip
    kubectl.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    yield RELEASE
    helm.must("uninstall", RELEASE, "--namespace", SYSTEM)


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of a test's own."""
    name = "t-" + request.node.name.partition("[")[0].removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    kubectl.must("create", "namespace", name)
    yield name
    kubectl.must("delete", "namespace", name, "--wait=false")


def items(kubectl: Kubectl, namespace: str, kind: str) -> list[Json]:
    """Return the objects of a kind in a namespace."""
    return list(json.loads(kubectl.must("-n", namespace, "get", kind, "-o", "json"))["items"])
