"""The operator as a process against the real control plane; the test plays the kubelet."""

from __future__ import annotations

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

import pytest
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


@pytest.fixture
def space(cluster: Cluster, kubectl: Kubectl, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Space]:
    name = "t-" + request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    kubectl.must("create", "namespace", name)
    operator = Operator(cluster, name, tmp_path / "operator.log")
    try:
        wait_for(operator.ready, "the operator")
        yield Space(kubectl, name, operator)
    finally:
        operator.process.terminate()
        operator.process.wait(timeout=20)
        kubectl.must("delete", "namespace", name, "--wait=false")


def report(outcome: Outcome = Outcome.TARGET_MET) -> str:
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


def test_a_prunejob_becomes_one_job_that_goes_with_it(space: Space) -> None:
    space.apply()
    wait_for(lambda: space.items("jobs"), "the Job")
    (job,) = space.items("jobs")
    assert job["metadata"]["ownerReferences"][0]["kind"] == "PruneJob"
    wait_for(lambda: space.condition("Reconciling")[0] == "True", "the status")
    assert space.prunejob()["status"]["observedGeneration"] == 1
    space.must("delete", "prunejob", "digits")
    wait_for(lambda: not space.items("jobs"), "the end of the Job")


def test_a_run_that_met_its_target_is_ready_and_reads_well(space: Space) -> None:
    space.apply()
    space.finish(0, report())
    space.must("wait", "--for=condition=Ready", "prunejob/digits", "--timeout=30s")
    variant = space.prunejob()["status"]["variants"][0]
    assert variant["energyReductionPercent"] == "65.00"
    assert (variant["energyReductionLowPercent"], variant["energyReductionHighPercent"]) == ("63.00", "67.00")
    assert variant["provenance"] == "Estimated"
    row = space.must("get", "pj", "digits", "--no-headers").split()
    assert row[:4] == ["digits", "60", "65.00", "Estimated"]
    assert "TargetMet" in row
    told = space.must("describe", "prunejob", "digits")
    assert "JobCreated" in told
    assert "65.0 % less energy" in told
    metrics = space.operator.get("/metrics")
    assert 'coppice_energy_reduction_ratio{hardware="default"' in metrics
    assert space.items("modelrollouts") == []


def test_a_met_target_makes_one_rollout_with_what_was_found(space: Space) -> None:
    space.apply(rollout__targets=[{"name": "digits-a"}])
    space.finish(0, report())
    wait_for(lambda: space.items("modelrollouts"), "the rollout")
    (rollout,) = space.items("modelrollouts")
    (model,) = rollout["spec"]["models"]
    assert (model["uri"], model["sha256"]) == ("pvc://fleet-models/runs/m", DIGEST)
    assert model["claim"]["energyReductionPercent"] == "65.00"
    # There is no such Deployment: the PruneJob says what its rollout says.
    wait_for(lambda: space.condition("Stalled")[1] == "TargetNotFound", "the rollout's verdict")
    assert space.condition("TargetMet")[0] == "True"
    assert space.condition("RolledOut")[0] == "False"


def test_a_missed_target_is_stalled_and_rolls_nothing_out(space: Space) -> None:
    space.apply(rollout__targets=[{"name": "digits-a"}])
    space.finish(0, report(Outcome.TARGET_NOT_MET))
    wait_for(lambda: space.condition("Stalled")[0] == "True", "the verdict")
    assert space.condition("TargetMet")[:2] == ("False", "TargetNotMet")
    assert space.items("modelrollouts") == []


def test_refused_input_is_told_and_not_retried(space: Space) -> None:
    space.apply()
    refusal = RunReport(outcome=Outcome.INPUT_REFUSED, message="spec.model.uri: there is no such bundle")
    space.finish(4, refusal.to_termination_message())
    wait_for(lambda: space.condition("Stalled")[0] == "True", "the verdict")
    assert space.condition("Stalled")[1:] == ("InputRefused", "spec.model.uri: there is no such bundle")
    assert len(space.items("pods")) == 1


def test_a_pod_that_cannot_be_placed_says_so(space: Space) -> None:
    space.apply()
    wait_for(lambda: space.condition("Ready")[1] == "Unschedulable", "the reason")
    assert "no nodes available" in space.condition("Ready")[2]
    assert space.condition("Reconciling")[0] == "True"


def test_suspend_stops_the_job_and_lets_it_go_on(space: Space) -> None:
    space.apply()
    wait_for(lambda: space.items("jobs"), "the Job")
    for value in (True, False):
        space.must("patch", "prunejob", "digits", "--type=merge", "-p", json.dumps({"spec": {"suspend": value}}))
        wait_for(lambda value=value: space.items("jobs")[0]["spec"]["suspend"] is value, f"suspend {value}")
    assert len(space.items("jobs")) == 1


def test_a_killed_operator_doubles_nothing_and_a_restart_writes_nothing(space: Space) -> None:
    space.apply()
    space.operator.restart()
    wait_for(lambda: space.items("jobs"), "the Job")
    space.finish(0, report())
    space.operator.restart()
    space.must("wait", "--for=condition=Ready", "prunejob/digits", "--timeout=30s")
    assert len(space.items("jobs")) == 1
    before = space.prunejob()["metadata"]["resourceVersion"]
    space.operator.restart()
    wait_for(space.operator.ready, "the restarted operator")
    wait_for(lambda: space.operator.passes() > 0, "a pass over what is settled")
    assert space.operator.writes() == 0
    assert space.prunejob()["metadata"]["resourceVersion"] == before


def test_a_restarted_api_server_loses_nothing(space: Space, cluster: Cluster) -> None:
    cluster.restart("kube-apiserver")
    wait_for(cluster.ready, "the API server")
    wait_for(lambda: space.kubectl.run("get", "namespace", space.name).returncode == 0, "the namespace")
    space.apply()
    wait_for(lambda: space.items("jobs"), "the Job")
