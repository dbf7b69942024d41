"""Numbers of resources, operators in turn, each on a control plane of its own that is made for it and gone after."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from devcluster import Cluster, ClusterOptions
from tests.bench.operator.build import build_reference
from tests.bench.operator.candidates import Candidate, candidates, drive
from tests.bench.operator.usage import cpu_seconds, peak_rss_bytes, rss_bytes, writes

SIZES, QUICK_SIZES = (1000, 5000, 10000), (1000,)
REPETITIONS = 3


def bench(quick: bool) -> dict[str, Any]:
    """Return a record for each number of resources: medians over repetitions, and each repetition."""
    reference = build_reference()
    repetitions = 1 if quick else REPETITIONS
    return {"sizes": [_size(count, repetitions, reference) for count in (QUICK_SIZES if quick else SIZES)]}


def _size(count: int, repetitions: int, reference: Path) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for repetition in range(repetitions):
        # In turn, and the other one first every second time: a machine that slows down slows both.
        order = candidates(reference)
        for candidate in order if repetition % 2 == 0 else order[::-1]:
            found = _run(candidate, count, reference)
            print(f"    {candidate.name:10} {found}", flush=True)
            runs.setdefault(candidate.name, []).append(found)
    return {
        "n": count, **_medians(runs["coppice"]), "reference": _medians(runs["reference"]),
        "repetitions": runs,
    }  # fmt: skip


def _run(candidate: Candidate, count: int, reference: Path) -> dict[str, Any]:
    with Cluster(ClusterOptions(name="bench")) as cluster:
        kubectl = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig)]
        subprocess.run([*kubectl, "apply", "--server-side", "-f", str(candidate.crds)], check=True, capture_output=True)
        subprocess.run(
            [*kubectl, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], check=True,
            capture_output=True,
        )  # fmt: skip
        operator = candidate.start(cluster.kubeconfig)
        try:
            # Warm: its watches are open and its code is loaded once one resource is settled.
            drive(reference, candidate, cluster.kubeconfig, 1, cluster.directory, prefix="first")
            before, cpu = writes(cluster), cpu_seconds(operator.pid)
            found = drive(reference, candidate, cluster.kubeconfig, count, cluster.directory)
            cpu = cpu_seconds(operator.pid) - cpu
            # The last statuses may still be written again.
            time.sleep(2)
            made = writes(cluster) - before
            peak = peak_rss_bytes(operator.pid)
            operator.kill()
            operator.wait()
            before, begin = writes(cluster), time.monotonic()
            operator = candidate.start(cluster.kubeconfig)
            # A resource that comes after all others is settled when the operator has caught up with them.
            drive(reference, candidate, cluster.kubeconfig, 1, cluster.directory, prefix="late")
            restart_seconds = time.monotonic() - begin
            time.sleep(2)
            restart = {
                "seconds": round(restart_seconds, 2), "rss_bytes": rss_bytes(operator.pid),
                # Two of them are the late resource's own.
                "writes": writes(cluster) - before - 2,
            }  # fmt: skip
        finally:
            operator.terminate()
            operator.wait()
    return {
        "settled_per_second": round(found["settled_per_second"], 1),
        "create_to_job_seconds": _rounded(found["create_to_job_seconds"]),
        "create_to_settled_seconds": _rounded(found["create_to_settled_seconds"]),
        "writes_per_resource": round(made / count, 4),
        "peak_rss_bytes": peak,
        "cpu_seconds": round(cpu, 2),
        "restart": restart,
        "load": os.getloadavg()[0],
    }


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
