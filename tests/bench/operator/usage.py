"""What the API server counted."""

from __future__ import annotations

import json
import subprocess

from prometheus_client.parser import text_string_to_metric_families

from coppice_api.constants import MANAGED_BY
from devcluster import Cluster

_WRITES = {
    (verb, resource, subresource)
    for verb in ("POST", "PUT", "PATCH", "APPLY", "DELETE")
    for resource, subresource in (("jobs", ""), ("prunejobs", "status"))
}
"""Requests that only an operator makes here: the driver posts resources, the Job controller writes jobs/status."""


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
