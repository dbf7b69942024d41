"""Numbers of resources, operators in turn, each on a control plane of its own that is made for it and gone after."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from devcluster import Cluster, ClusterOptions
from tests.bench.machine import ROOT, machine
from tests.bench.operator import lives
from tests.bench.operator.build import build_reference
from tests.bench.operator.candidates import SAME_OBJECTS, Candidate, candidates, drive, same_objects
from tests.bench.operator.usage import writes
from tests.bench.process import cpu_seconds, peak_rss_bytes, rss_bytes
from tests.integration.operator.support import report

SIZES, QUICK_SIZES = (1000, 5000, 10000), (1000,)
REPETITIONS = 3
RESULT = ROOT / "build" / "bench" / "operator.json"
MOST_LIVES = 1000
"""Whole lives are measured of so many at most: their pods' own writes are what takes the time."""
_QUIET_SECONDS = 2.0
_IDLE_SECONDS, _IDLE_WINDOWS = 10.0, 3
"""The Job controller may still be at work in the first, and what it writes is news to an operator."""


def bench(quick: bool) -> dict[str, Any]:
    """Return a record for each number of resources: medians over repetitions, and each repetition.

    SIZES= names other numbers. Those that an earlier run has measured, and this one does not, keep their records, so
    that a long run can be made in parts; each says which commit it is of.
    """
    reference = build_reference()
    kept = {} if quick else {row["n"]: row for row in _earlier()}
    for count in _sizes(quick):
        kept[count] = {**_size(count, 1 if quick else REPETITIONS, reference), "machine": machine()}
        if not quick:
            # What took an hour is not lost with the rest.
            RESULT.parent.mkdir(parents=True, exist_ok=True)
            RESULT.write_text(json.dumps({"sizes": _in_order(kept)}, indent=2) + "\n")
    return {"sizes": _in_order(kept)}


def _sizes(quick: bool) -> tuple[int, ...]:
    named = os.environ.get("SIZES", "")
    return tuple(map(int, named.split(","))) if named else QUICK_SIZES if quick else SIZES


def _earlier() -> list[dict[str, Any]]:
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    return [] if found.get("quick") else list(found.get("sizes", ()))


def _in_order(rows: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [rows[count] for count in sorted(rows)]


def _size(count: int, repetitions: int, reference: Path) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        order = [*candidates(reference), same_objects(reference, Path(directory))]
        for repetition in range(repetitions):
            # In turn, and the other one first every second time: a machine that slows down slows all.
            for candidate in order if repetition % 2 == 0 else order[::-1]:
                found = _run(candidate, count, reference)
                print(f"    {candidate.name:12} {found}", flush=True)
                runs.setdefault(candidate.name, []).append(found)
    return {
        "n": count,
        **_medians(runs["coppice"]),
        "reference": _medians(runs["reference"]),
        "same_objects": _medians(runs[SAME_OBJECTS]),
        "repetitions": runs,
    }


def _run(candidate: Candidate, count: int, reference: Path) -> dict[str, Any]:
    options = ClusterOptions(
        name="bench", kwok_nodes=lives.NODES, gpus_per_node=lives.GPUS_PER_NODE, kwok_run_seconds=lives.RUN_SECONDS,
        kwok_message=report(),
    )  # fmt: skip
    with Cluster(options) as cluster:
        prepare(cluster, candidate.crds)
        operator = Process(candidate, cluster)
        try:
            # Warm: its watches are open and its code is loaded once one resource is settled.
            drive(reference, candidate, cluster.kubeconfig, 1, cluster.directory, prefix="first")
            idle: dict[str, float] = {"rss_bytes": rss_bytes(operator.pid)}
            pids = {"cpu_seconds": operator.pid, "api_server_cpu_seconds": cluster.pid("kube-apiserver")}
            before, cpu = writes(cluster), {name: cpu_seconds(pid) for name, pid in pids.items()}
            found = drive(reference, candidate, cluster.kubeconfig, count, cluster.directory)
            cpu = {name: round(cpu_seconds(pid) - cpu[name], 2) for name, pid in pids.items()}
            # The last statuses may still be written again.
            time.sleep(_QUIET_SECONDS)
            made = writes(cluster) - before
            peak = peak_rss_bytes(operator.pid)
            idle["cpu_ratio"] = round(min(_idle_cpu_ratio(operator.pid) for _ in range(_IDLE_WINDOWS)), 4)
            restart = _restart(operator, reference)
            lived = _lives(operator, reference, min(count, MOST_LIVES)) if candidate.lives else None
        finally:
            operator.end()
    return {
        "settled_per_second": round(found["settled_per_second"], 1),
        "create_to_job_seconds": _rounded(found["create_to_job_seconds"]),
        "create_to_settled_seconds": _rounded(found["create_to_settled_seconds"]),
        "writes_per_resource": round(made / count, 4),
        "peak_rss_bytes": peak,
        **cpu,
        "idle": idle,
        "restart": restart,
        **({"lives": lived} if lived else {}),
        "load": os.getloadavg()[0],
    }


class Process:
    """One operator process at a time."""

    def __init__(self, candidate: Candidate, cluster: Cluster) -> None:
        self.candidate, self.cluster = candidate, cluster
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.start()

    def start(self) -> None:
        """Start one."""
        self._process = self.candidate.start(self.cluster.kubeconfig, self.port)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def kill(self) -> None:
        """End it as hard as can be."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def prepare(cluster: Cluster, crds: Path) -> None:
    """Apply CRDs and wait until they are served."""
    kubectl = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig)]
    for command in (
        ["apply", "--server-side", "-f", str(crds)],
        ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"],
    ):
        subprocess.run([*kubectl, *command], check=True, capture_output=True)


def _idle_cpu_ratio(pid: int) -> float:
    """Return the share of a core that a process takes with nothing to do."""
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(_IDLE_SECONDS)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began)


def _restart(operator: Process, reference: Path) -> dict[str, Any]:
    cluster = operator.cluster
    operator.kill()
    before, begin = writes(cluster), time.monotonic()
    operator.start()
    # A resource that comes after all others is settled when the operator has caught up with them.
    drive(reference, operator.candidate, cluster.kubeconfig, 1, cluster.directory, prefix="late")
    seconds = time.monotonic() - begin
    time.sleep(_QUIET_SECONDS)
    # Two of them are the late resource's own.
    made = writes(cluster) - before - 2
    return {"seconds": round(seconds, 2), "rss_bytes": rss_bytes(operator.pid), "writes": made}


def _lives(operator: Process, reference: Path, count: int) -> dict[str, Any]:
    cluster = operator.cluster
    before, began = lives.own_writes(operator.port), time.monotonic()
    drive(
        reference, operator.candidate, cluster.kubeconfig, count, cluster.directory, prefix="life",
        resource=operator.candidate.lives,
    )  # fmt: skip
    lives.wait_until_met(cluster, "life-", count)
    seconds = time.monotonic() - began
    # The last Events follow the last statuses.
    time.sleep(_QUIET_SECONDS)
    return lives.record(count, seconds, lives.own_writes(operator.port) - before)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of every figure, nested ones included."""
    return {
        key: _medians([run[key] for run in runs])
        if isinstance(value, dict)
        else statistics.median(run[key] for run in runs)
        for key, value in runs[0].items()
    }
