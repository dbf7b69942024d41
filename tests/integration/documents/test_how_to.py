"""Pages that are followed in a cluster, as written, against a real API server; nothing runs there but it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from devcluster import Cluster
from tests import pages
from tests.integration.conftest import Kubectl


@pytest.mark.parametrize("name", pages.IN_A_CLUSTER)
def test_the_page_works_as_written(
    name: str, cluster: Cluster, kubectl: Kubectl, repository: Path, tmp_path: Path
) -> None:
    page = repository / name
    space = f"page-{page.stem}"
    kubectl.must("create", "namespace", space)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = space
    own = tmp_path / "kubeconfig"
    own.write_text(yaml.safe_dump(config))
    (tmp_path / "ca.crt").write_text("a certificate that a page takes for granted\n")
    environment = {"KUBECONFIG": str(own), "PATH": f"{cluster.kubectl.parent}:{os.environ['PATH']}"}
    pages.follow(page, tmp_path, environment)
    made = json.loads(kubectl.must("-n", space, "get", "prunejobs,modelrollouts", "-o", "json"))["items"]
    shown = [name for name in pages.files(page) if name.endswith(".yaml")]
    assert len(made) == len(shown)
    kubectl.must("delete", "namespace", space, "--wait=false")
