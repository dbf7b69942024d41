"""The operator is killed again and again on the demo's path, and nobody can tell from the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.place import EXAMPLES
from devcluster import Cluster, ClusterOptions
from tests.integration.conftest import Kubectl

KILLS = 5
PATH_SECONDS = 70.0
"""About how long the path takes from the apply to the last wave; kills fall anywhere in it."""
DEADLINE_SECONDS = 240.0


@pytest.fixture(scope="module")
def fleet(repository: Path) -> Iterator[tuple[Cluster, Kubectl]]:
    """A cluster with a node, Prometheus, a trained model and three Deployments that serve it."""
    with Cluster(ClusterOptions(name="killed", nodes=1, prometheus=True, python_path=EXAMPLES)) as cluster:
        kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
        for command in readme_commands(repository, "Train and serve"):
            run(command, cluster, repository)
        yield cluster, kubectl


def readme_commands(repository: Path, heading: str) -> list[str]:
    """Return the commands under a heading of the example's README: what a person would type."""
    text = (repository / "examples" / "digits" / "README.md").read_text()
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = [line.removeprefix("$ ") for line in section.splitlines() if line.startswith("$ ")]
    assert found, heading
    return found


def run(command: str, cluster: Cluster, repository: Path) -> str:
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PROMETHEUS_URL": str(cluster.prometheus_url),
        "PATH": f"{cluster.kubectl.parent}:{os.environ['PATH']}",
    }
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=repository, env=environment, capture_output=True, text=True,
        timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


def start_operator(cluster: Cluster, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "coppice_cli.main", "operator", "--namespace", "default", "--host", "127.0.0.1",
             "--port", "0"],
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}, stdout=stream, stderr=stream,
        )  # fmt: skip


def items(kubectl: Kubectl, kind: str, *arguments: str) -> list[dict[str, Any]]:
    return list(json.loads(kubectl.must("get", kind, "-o", "json", *arguments))["items"])


def is_ready(kubectl: Kubectl) -> bool:
    (job,) = items(kubectl, "prunejobs")
    conditions = {item["type"]: item["status"] for item in job.get("status", {}).get("conditions", ())}
    assert conditions.get("Stalled") != "True", job["status"]
    return conditions.get("Ready") == "True"


@pytest.mark.timeout(600)
def test_an_operator_killed_five_times_makes_one_job_one_rollout_and_the_same_end(
    fleet: tuple[Cluster, Kubectl], repository: Path, tmp_path: Path
) -> None:
    cluster, kubectl = fleet
    seed = random.randrange(1 << 32)
    draw = random.Random(seed)
    moments = sorted(draw.uniform(0.2, PATH_SECONDS) for _ in range(KILLS))
    print(f"seed {seed}: killed at {', '.join(f'{moment:.1f}' for moment in moments)} s")
    apply, *look = readme_commands(repository, "Prune and roll out")
    traffic_summary = tmp_path / "traffic.json"
    traffic = subprocess.Popen(
        [sys.executable, "-m", "digits.traffic", "--summary", str(traffic_summary), "--rate", "4",
         "--kubeconfig", str(cluster.kubeconfig)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(item) for item in EXAMPLES)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    log = tmp_path / "operator.log"
    operator = start_operator(cluster, log)
    killed = 0
    try:
        run(apply, cluster, repository)
        began = time.monotonic()
        while not is_ready(kubectl):
            elapsed = time.monotonic() - began
            assert elapsed < DEADLINE_SECONDS, log.read_text()[-3000:]
            if killed < KILLS and elapsed > moments[killed]:
                operator.send_signal(signal.SIGKILL)
                operator.wait()
                killed += 1
                operator = start_operator(cluster, log)
            assert operator.poll() is None, log.read_text()[-3000:]
            time.sleep(0.2)
        # Kills that the path was too quick for find a finished one, which must stay as it is.
        for _ in range(killed, KILLS):
            operator.send_signal(signal.SIGKILL)
            operator.wait()
            operator = start_operator(cluster, log)
        assert is_ready(kubectl)
        told = "".join(run(command, cluster, repository) for command in look)
        assert "RolledOut" in told
        for reason in ("Running", "TargetMet", "RolloutCreated"):
            assert reason in told
    finally:
        for process in (operator, traffic):
            process.terminate()
            process.wait(timeout=30)
    assert "Traceback" not in log.read_text()
    (only_job,) = items(kubectl, "jobs", "-l", "coppice.dev/prunejob=digits")
    assert only_job["status"]["succeeded"] == 1
    pods = items(kubectl, "pods", "-l", "coppice.dev/prunejob=digits")
    assert len(pods) == 1
    (rollout,) = items(kubectl, "modelrollouts")
    assert rollout["status"]["state"] == "RolledOut"
    (prunejob,) = items(kubectl, "prunejobs")
    digest = prunejob["status"]["variants"][0]["artifact"]["sha256"]
    deployments = items(kubectl, "deployments")
    assert len(deployments) == 3
    for deployment in deployments:
        environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        (uri,) = [item["value"] for item in environment if item["name"] == "MODEL_URI"]
        assert uri.endswith(f"#sha256={digest}")
        # Made once and changed once: no write was done twice or taken back.
        assert deployment["metadata"]["generation"] == 2
    sent = json.loads(traffic_summary.read_text())
    assert sent["sent"] > 100
    assert sent["failed"] == 0, sent["failures"]
