"""What a process used, from /proc, and what the API server counted."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from coppice_api.constants import MANAGED_BY
from devcluster import Cluster

_WRITES = {
    (verb, resource, subresource)
    for verb in ("POST", "PUT", "PATCH", "APPLY", "DELETE")
    for resource, subresource in (("jobs", ""), ("prunejobs", "status"))
}
"""Requests that only an operator makes here: the driver posts resources, the Job controller writes jobs/status."""


def rss_bytes(pid: int) -> int:
    """Return the resident size of a process now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_bytes(pid: int) -> int:
    """Return the greatest resident size a process has had, as the kernel keeps it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def writes(cluster: Cluster) -> int:
    """Return how many writes of an operator the API server has seen: what it has counted, and Events of ours.

    The reference writes no Events; those of the Job controller are not an operator's.
    """
    text = _raw(cluster, "/metrics")
    events = json.loads(_raw(cluster, f"/api/v1/events?fieldSelector=source={MANAGED_BY}"))["items"]
    return len(events) + round(
        sum(
            sample.value
            for family in text_string_to_metric_families(text)
            if family.name == "apiserver_request"
            for sample in family.samples
            if (sample.labels.get("verb"), sample.labels.get("resource"), sample.labels.get("subresource")) in _WRITES
        )
    )


def _raw(cluster: Cluster, path: str) -> str:
    return subprocess.run(
        [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), "get", "--raw", path],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
