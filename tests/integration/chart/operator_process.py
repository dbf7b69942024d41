"""The operator as the chart's Deployment starts it, as a process; the test plays the kubelet."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from coppice_api.base import Provenance
from coppice_api.run import ModelFigures, Outcome, ReportedArtifact, RunReport
from tests.builders import DIGEST
from tests.integration.chart.conftest import SYSTEM, Json, items
from tests.integration.conftest import Kubectl
from tests.waiting import wait_for


def arguments(kubectl: Kubectl, deployment: str) -> list[str]:
    """Return what the container of a Deployment in the cluster is started with."""
    found = json.loads(kubectl.must("-n", SYSTEM, "get", "deployment", deployment, "-o", "json"))
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["coppice"]
    return list(container["args"])


def token_of(kubectl: Kubectl, service_account: str) -> str:
    """Return a token as a pod of the service account would hold."""
    return kubectl.must("-n", SYSTEM, "create", "token", service_account).strip()


class OperatorProcess:
    """One operator; use with `with`.

    Args:
        kubeconfig: Its credentials.
        options: Command line, without the program.
        log: Where its output goes.
        python_path: Comes before the project's own packages.
    """

    def __init__(self, kubeconfig: Path, options: list[str], log: Path, python_path: Path | None = None) -> None:
        self._kubeconfig, self._options, self._log, self._python_path = kubeconfig, options, log, python_path
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def __enter__(self) -> OperatorProcess:
        # What a pod has of its own: an address, and the namespace in its service account's directory.
        own = ["--host", "127.0.0.1", "--port", str(self.port), "--lease-namespace", SYSTEM]
        path = os.pathsep.join([str(self._python_path or ""), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        with self._log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "coppice_cli.main", *self._options, *own],
                env={**os.environ, "KUBECONFIG": str(self._kubeconfig), "PYTHONPATH": path},
                stdout=stream, stderr=stream,
            )  # fmt: skip
        wait_for(self.ready, "the operator")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)

    def ready(self) -> bool:
        """Whether the readiness probe of the chart would pass."""
        assert self.process.poll() is None, self.log()
        try:
            return self._get("/readyz").startswith("ok")
        except OSError:
            return False

    def log(self) -> str:
        """Return what it said so far."""
        return self._log.read_text()

    def count(self, name: str, **unless: tuple[str, ...]) -> float:
        """Return the sum of a metric's samples, but for those with one of these values of a label."""
        families = text_string_to_metric_families(self._get("/metrics"))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(
            sample.value for sample in samples if not any(sample.labels.get(key) in unless[key] for key in unless)
        )

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
            return str(response.read().decode())


def condition(kubectl: Kubectl, namespace: str, kind: str, name: str = "digits") -> tuple[str, str]:
    """Return status and reason of a PruneJob's condition."""
    found = json.loads(kubectl.must("-n", namespace, "get", "prunejob", name, "-o", "json"))
    conditions: list[Json] = found.get("status", {}).get("conditions", [])
    return next(((item["status"], item["reason"]) for item in conditions if item["type"] == kind), ("", ""))


def finish(kubectl: Kubectl, namespace: str, job: str) -> None:
    """Say of a Job's pod what a kubelet would when the run has met its target."""

    def pods() -> list[Json]:
        return [
            pod for pod in items(kubectl, namespace, "pods")
            if pod["metadata"]["labels"].get("batch.kubernetes.io/job-name") == job
            and "deletionTimestamp" not in pod["metadata"]
        ]  # fmt: skip

    wait_for(pods, f"the pod of {job}")
    (pod,) = pods()
    now = "2026-01-01T00:00:00Z"
    ended = {"exitCode": 0, "reason": "Completed", "message": report(), "startedAt": now, "finishedAt": now}
    container = {"name": "run", "image": "i", "imageID": "i", "ready": False, "restartCount": 0}
    status: Any = {"phase": "Succeeded", "containerStatuses": [{**container, "state": {"terminated": ended}}]}
    kubectl.must(
        "-n", namespace, "patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", "-p",
        json.dumps({"status": status}),
    )  # fmt: skip


def report() -> str:
    """Return the termination message of a run that met its target."""
    dense = ModelFigures(
        accuracy_ratio=0.9963, energy_joules=2e-3, power_watts=6.0, latency_seconds=0.008, memory_bytes=4_000_000
    )
    pruned = dense.model_copy(update={"accuracy_ratio": 0.9944, "energy_joules": 7e-4})
    return RunReport(
        outcome=Outcome.TARGET_MET, message="65.0 % less energy", dense=dense, pruned=pruned,
        energy_reduction_ratio=0.65, energy_reduction_interval=(0.63, 0.67), provenance=Provenance.ESTIMATED,
        iterations=4, artifact=ReportedArtifact(uri="pvc://fleet-models/runs/m", sha256=DIGEST),
    ).to_termination_message()  # fmt: skip
