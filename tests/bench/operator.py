"""How fast the operator settles PruneJobs, what it writes, and what a restart costs.

Jobs are queued (Kueue's label), so no pod is made and the control plane's own work stays small. Settled: the Job is
there and the status speaks of the spec.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from coppice_operator.kube import Kube, collection_path
from devcluster import Cluster, ClusterOptions
from tests.builders import prune_job

SIZES = (200, 1000)
_AT_ONCE = 16
_NAMESPACE = "default"
_DEADLINE_SECONDS = 300.0


def bench(quick: bool) -> dict[str, Any]:
    """Return a record for each number of PruneJobs, on a control plane of its own."""
    return {"runs": [_run(size) for size in (SIZES[:1] if quick else SIZES)]}


def _run(size: int) -> dict[str, Any]:
    with Cluster(ClusterOptions(name="bench")) as cluster:
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        crds = Path(__file__).parents[2] / "crds"
        subprocess.run(
            [str(cluster.kubectl), "apply", "--server-side", "-f", str(crds)], check=True, capture_output=True
        )
        port = _free_port()
        operator = _start(port, cluster.kubeconfig)
        try:
            began = time.monotonic()
            asyncio.run(_create(size, cluster.kubeconfig))
            created_seconds = time.monotonic() - began
            asyncio.run(_settled(size, cluster.kubeconfig))
            settled_seconds = time.monotonic() - began
            writes, rss_bytes, cpu_seconds = _writes(port), _rss(operator.pid), _cpu(operator.pid)
            operator.send_signal(signal.SIGKILL)
            operator.wait()
            began = time.monotonic()
            operator = _start(port, cluster.kubeconfig)
            restart_seconds = time.monotonic() - began
            # One resync has every object looked at; what it wrote by then it wrote.
            time.sleep(5)
            restart_writes, restart_rss_bytes = _writes(port), _rss(operator.pid)
        finally:
            operator.terminate()
            operator.wait()
    result = {
        "prunejobs": size,
        "created_seconds": round(created_seconds, 2),
        "settled_seconds": round(settled_seconds, 2),
        "settled_per_second": round(size / settled_seconds, 1),
        "writes_each": round(writes / size, 3),
        "operator_rss_bytes": rss_bytes,
        "operator_cpu_milliseconds_each": round(cpu_seconds * 1000 / size, 2),
        "restart_ready_seconds": round(restart_seconds, 2),
        "restart_writes": restart_writes,
        "restart_rss_bytes": restart_rss_bytes,
    }
    print(f"    {result}", flush=True)
    return result


def _start(port: int, kubeconfig: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "coppice_cli.main", "operator", "--namespace", _NAMESPACE, "--host", "127.0.0.1",
         "--port", str(port)],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return process
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("the operator is not ready")


async def _create(size: int, kubeconfig: Path) -> None:
    slots = asyncio.Semaphore(_AT_ONCE)
    path = collection_path("coppice.dev/v1alpha1", "PruneJob", _NAMESPACE)

    async with Kube(kubeconfig=kubeconfig) as kube:

        async def create(number: int) -> None:
            document = prune_job(run__queueName="bench", measurement__minimumProvenance="Estimated")
            document["metadata"] = {"name": f"bench-{number:05d}", "namespace": _NAMESPACE}
            async with slots:
                await kube.create(path, document)

        await asyncio.gather(*(create(number) for number in range(size)))


async def _settled(size: int, kubeconfig: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    async with Kube(kubeconfig=kubeconfig) as kube:
        while time.monotonic() < deadline:
            jobs = await kube.list_all(collection_path("batch/v1", "Job", _NAMESPACE))
            found = await kube.list_all(collection_path("coppice.dev/v1alpha1", "PruneJob", _NAMESPACE))
            if len(jobs) == size and all("observedGeneration" in item.get("status", {}) for item in found):
                return
            await asyncio.sleep(0.25)
    raise TimeoutError(f"{size} PruneJobs did not settle within {_DEADLINE_SECONDS:.0f} s")


def _writes(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        text = response.read().decode()
    return round(
        sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "coppice_operator_api_requests_total" and sample.labels["verb"] != "GET"
        )
    )


def _rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
