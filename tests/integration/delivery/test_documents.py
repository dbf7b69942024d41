"""Every command of docs/gitops.md, run in its order against a real API server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import yaml

from devcluster import Cluster
from tests.e2e.documents.test_commands import commands
from tests.integration.conftest import Kubectl

SPACE = "documents"


def test_every_command_of_the_gitops_page_works(
    cluster: Cluster, kubectl: Kubectl, repository: Path, tmp_path: Path
) -> None:
    lines = commands(repository / "docs" / "gitops.md")
    assert len(lines) == 7
    assert all(line.startswith("kubectl ") for line in lines)
    # What is there where the page is read: the two ConfigMaps of an Argo CD, and a namespace of one's own.
    kubectl.must("create", "namespace", "argocd")
    for name in ("argocd-cm", "argocd-notifications-cm"):
        kubectl.must("-n", "argocd", "create", "configmap", name, "--from-literal=kept=yes")
    kubectl.must("create", "namespace", SPACE)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = SPACE
    own = tmp_path / "kubeconfig"
    own.write_text(yaml.safe_dump(config))
    result = subprocess.run(
        ["bash", "-c", "\n".join(["set -euo pipefail", *lines])], cwd=repository, capture_output=True, text=True,
        timeout=120, check=False,
        env={**os.environ, "KUBECONFIG": str(own), "PATH": f"{cluster.kubectl.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    assert "name: digits-c" in result.stdout, "what kustomize builds"
    for name, key in (("argocd-cm", "health.coppice.dev_ModelRollout"), ("argocd-notifications-cm", "rollout-waits")):
        data = json.loads(kubectl.must("-n", "argocd", "get", "configmap", name, "-o", "json"))["data"]
        assert data["kept"] == "yes"
        assert any(key in entry for entry in data)
    secret = json.loads(kubectl.must("-n", SPACE, "get", "secret", "fleet-git", "-o", "json"))
    assert secret["metadata"]["annotations"] == {"coppice.dev/git-host": "git.example.com"}
    for namespace in ("argocd", SPACE):
        kubectl.must("delete", "namespace", namespace, "--wait=false")


def test_every_file_that_the_page_names_is_there(repository: Path) -> None:
    text = (repository / "docs" / "gitops.md").read_text()
    named = set(re.findall(r"(?:examples|gitops)/[\w./-]+", text))
    assert len(named) > 5
    for name in named:
        assert (repository / name).exists(), name
