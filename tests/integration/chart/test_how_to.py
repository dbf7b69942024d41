"""Pages that install the chart, followed as written with the real helm."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import Cluster
from tests import pages, programs
from tests.integration.chart.conftest import RELEASE, SYSTEM, Helm
from tests.integration.conftest import Kubectl

KINDS = ("prunejobs", "modelrollouts")


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
    kubectl.delete_kinds(name)


def without_kinds(kubectl: Kubectl) -> None:
    """Delete our CRDs, which stay when the chart goes: other tests begin without them."""
    try:
        kubectl.delete_kinds(*(f"{kind}.coppice.dev" for kind in KINDS))
    except AssertionError:
        left = [kubectl.run("get", kind, "-A", "-o", "yaml").stdout for kind in ("crd", *KINDS)]
        pytest.fail("CRDs are not gone:\n" + "\n".join(left))


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
        without_kinds(kubectl)
    assert "STATUS: deployed" in said
    assert "coppice" in said.partition("STATUS: deployed")[2]


@pytest.mark.timeout(programs.MANY_SECONDS)
def test_the_charts_own_page_works_as_written_and_with_a_registry(
    cluster: Cluster, helm: Helm, kubectl: Kubectl, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "charts").symlink_to(repository / "charts")
    with programs.registry() as address:
        page = (repository / "charts" / "coppice" / "README.md").read_text()
        # The registry of the tests has no certificate.
        page = re.sub(r"^(\$ helm .*oci://.*)$", r"\1 --plain-http", page, flags=re.MULTILINE)
        (tmp_path / "page.md").write_text(page.replace("registry.example", address))
        environment = {"KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{helm.program.parent}:{os.environ['PATH']}"}
        try:
            said = pages.follow(tmp_path / "page.md", tmp_path, environment)
        finally:
            helm.run("uninstall", RELEASE, "--namespace", SYSTEM, "--wait")
            without_kinds(kubectl)
    assert said.count("STATUS: deployed") == 3
    # What the release workflow takes the digest from.
    assert re.search(r"^Digest: sha256:[0-9a-f]{64}$", said, re.MULTILINE)
