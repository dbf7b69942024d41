"""One real control plane for the integration tests of a worker process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster, ClusterOptions


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl against one cluster."""

    program: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: Any = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl; an object given as stdin is sent as JSON."""
        return subprocess.run(
            [str(self.program), *arguments],
            input=None if stdin is None else json.dumps(stdin),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )

    def must(self, *arguments: str, stdin: Any = None) -> str:
        """Run kubectl and return its output; fail the test when it fails."""
        result = self.run(*arguments, stdin=stdin)
        assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real control plane of our own, ended with the tests."""
    with Cluster(ClusterOptions(name="tests")) as running:
        yield running


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster, repository: Path) -> Kubectl:
    """kubectl against that cluster, with our CRDs applied the way the README says."""
    tool = Kubectl(cluster.kubectl, cluster.kubeconfig)
    tool.must("apply", "--server-side", "-f", str(repository / "crds"))
    tool.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    return tool
