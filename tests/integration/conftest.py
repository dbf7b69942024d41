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
from tests.waiting import wait_for


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

    def delete_kinds(self, *names: str) -> None:
        """Delete CRDs and wait until they are gone.

        Their objects are asked for first. While the API server has no cache of a kind yet, it refuses to list it, even
        to the controller that cleans up behind a CRD, which counts every refusal and then waits for minutes
        (measured with 1.37 on busy CPUs: one of 72 CRDs took 260 s; none of 516 asked for first took over 2 s).
        """
        for name in names:
            self.run("get", name, "--all-namespaces")
        self.must("delete", "crd", *names, "--ignore-not-found", "--wait=false")
        # It looks again after a minute where objects were not gone at once.
        wait_for(lambda: not self.must("get", "crd", *names, "--ignore-not-found"), f"no {names}", deadline_seconds=150)


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
