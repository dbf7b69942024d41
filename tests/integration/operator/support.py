"""An operator process, the namespace it works in, and what a kubelet and a run would say there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from coppice_api.base import Provenance
from coppice_api.run import ModelFigures, Outcome, ReportedArtifact, RunReport
from devcluster import Cluster
from tests.builders import DIGEST, prune_job
from tests.integration.conftest import Kubectl
from tests.waiting import wait_for

Json = dict[str, Any]


class Operator:
    """One operator process at a time, in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, log: Path) -> None:
        self._cluster, self._namespace, self._log = cluster, namespace, log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process = self._start()

    def restart(self) -> None:
        """Kill it as hard as can be, and start another."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = self._start()

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
            return str(response.read().decode())

    def ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            return self.get("/readyz") == "ok\n"
        except OSError:
            return False

    def writes(self) -> int:
        families = text_string_to_metric_families(self.get("/metrics"))
        return round(
            sum(
                sample.value
                for family in families
                for sample in family.samples
                if sample.name == "coppice_operator_api_requests_total" and sample.labels["verb"] != "GET"
            )
        )

    def passes(self) -> float:
        families = text_string_to_metric_families(self.get("/metrics"))
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "coppice_operator_reconcile_duration_seconds_count"
        )

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "coppice_cli.main", "operator", "--namespace", self._namespace,
                 "--host", "127.0.0.1", "--port", str(self.port)],
                env={**os.environ, "KUBECONFIG": str(self._cluster.kubeconfig)}, stdout=stream, stderr=stream,
            )  # fmt: skip


class Space:
    """A namespace of a test's own, with an operator in it."""

    def __init__(self, kubectl: Kubectl, name: str, operator: Operator) -> None:
        self.kubectl, self.name, self.operator = kubectl, name, operator

    def must(self, *arguments: str, stdin: Any = None) -> str:
        return self.kubectl.must("-n", self.name, *arguments, stdin=stdin)

    def apply(self, name: str = "digits", **values: Any) -> None:
        document = prune_job(measurement__minimumProvenance="Estimated", **values)
        document["metadata"]["name"] = name
        self.must("apply", "-f", "-", stdin=document)

    def prunejob(self, name: str = "digits") -> Json:
        return dict(json.loads(self.must("get", "prunejob", name, "-o", "json")))

    def items(self, kind: str) -> list[Json]:
        return list(json.loads(self.must("get", kind, "-o", "json"))["items"])

    def items_of(self, name: str, kind: str) -> list[Json]:
        """Return the objects of a kind that were made for a PruneJob."""
        found = self.items(kind)
        return [item for item in found if item["metadata"]["labels"].get("coppice.dev/prunejob") == name]

    def condition(self, kind: str, name: str = "digits") -> tuple[str, str, str]:
        found = self.prunejob(name).get("status", {}).get("conditions", [])
        return next(
            ((item["status"], item["reason"], item["message"]) for item in found if item["type"] == kind), ("", "", "")
        )

    def pod(self) -> Json | None:
        found = self.items("pods")
        return found[0] if found else None

    def finish(self, exit_code: int, message: str) -> None:
        """Say of the run's pod what a kubelet would: its container ended."""
        wait_for(self.pod, "the run's pod")
        pod = self.pod()
        assert pod is not None
        now = "2026-01-01T00:00:00Z"
        state = {"terminated": {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error",
                                "message": message, "startedAt": now, "finishedAt": now}}  # fmt: skip
        status = {
            "phase": "Succeeded" if exit_code == 0 else "Failed",
            "containerStatuses": [
                {"name": "run", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
            ],
        }
        self.must(
            "patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", "-p",
            json.dumps({"status": status}),
        )  # fmt: skip


@contextlib.contextmanager
def operated(cluster: Cluster, kubectl: Kubectl, name: str, log: Path) -> Iterator[Space]:
    """Give a namespace that an operator works in; both go afterwards."""
    kubectl.must("create", "namespace", name)
    operator = Operator(cluster, name, log)
    try:
        wait_for(operator.ready, "the operator")
        yield Space(kubectl, name, operator)
    finally:
        operator.process.terminate()
        operator.process.wait(timeout=20)
        kubectl.must("delete", "namespace", name, "--wait=false")


def report(outcome: Outcome = Outcome.TARGET_MET) -> str:
    """Return the termination message of a run that ended well."""
    dense = ModelFigures(
        accuracy_ratio=0.9963, energy_joules=2e-3, power_watts=6.0, latency_seconds=0.008, memory_bytes=4_000_000
    )
    pruned = ModelFigures(
        accuracy_ratio=0.9944, energy_joules=7e-4, power_watts=6.0, latency_seconds=0.003, memory_bytes=600_000
    )
    return RunReport(
        outcome=outcome, message="65.0 % less energy", dense=dense, pruned=pruned, energy_reduction_ratio=0.65,
        energy_reduction_interval=(0.63, 0.67), latency_speedup_ratio=2.7, memory_reduction_ratio=0.85,
        provenance=Provenance.ESTIMATED, iterations=4,
        artifact=ReportedArtifact(uri="pvc://fleet-models/runs/m", sha256=DIGEST),
    ).to_termination_message()  # fmt: skip
