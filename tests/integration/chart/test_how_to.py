"""Pages that install the chart, followed as written with the real helm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import Cluster
from tests import pages
from tests.integration.chart.conftest import RELEASE, SYSTEM, Helm
from tests.integration.conftest import Kubectl


@pytest.fixture
def prometheus_crd(kubectl: Kubectl, monitoring_crds: None) -> Iterator[None]:
    """The kind that a page asks for; only its name matters."""
    kind = {"plural": "prometheuses", "singular": "prometheus", "kind": "Prometheus"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    name = "prometheuses.monitoring.coreos.com"
    spec = {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": kind, "versions": [version]}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name}}
    kubectl.must("apply", "-f", "-", stdin={**crd, "spec": spec})
    kubectl.must("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    yield
    kubectl.must("delete", "crd", name)


@pytest.mark.parametrize("name", pages.WITH_HELM)
def test_the_page_works_as_written(
    name: str, cluster: Cluster, helm: Helm, kubectl: Kubectl, prometheus_crd: None, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "charts").symlink_to(repository / "charts")
    environment = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{cluster.kubectl.parent}:{helm.program.parent}:{os.environ['PATH']}",
    }
    try:
        said = pages.follow(repository / name, tmp_path, environment)
    finally:
        helm.run("uninstall", RELEASE, "--namespace", SYSTEM, "--wait")
        # They are kept when the chart goes; other tests begin without them.
        kubectl.must("delete", "crd", "prunejobs.coppice.dev", "modelrollouts.coppice.dev", "--ignore-not-found")
    assert "STATUS: deployed" in said
    assert "coppice" in said.partition("STATUS: deployed")[2]
