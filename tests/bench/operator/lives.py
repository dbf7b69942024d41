"""Whole lives on nodes that KWOK plays: PruneJobs whose runs end well, until each has met its target."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from devcluster import Cluster
from tests.builders import prune_job

NODES, GPUS_PER_NODE = 10, 1000
RUN_SECONDS = 1.0
TEMPLATE = prune_job(
    measurement__minimumProvenance="Estimated", model__uri="s3://models/digits", output__uri="s3://models/runs"
)
"""Its pod needs no claim."""
_LIMIT_SECONDS = 600.0
_POLL_SECONDS = 1.0


def record(count: int, seconds: float, writes: int) -> dict[str, Any]:
    """Return the figures of some lives."""
    return {"n": count, "met_per_second": round(count / seconds, 1), "writes_per_resource": round(writes / count, 3)}


def wait_until_met(cluster: Cluster, prefix: str, count: int) -> None:
    """Return when all PruneJobs whose names begin so have met their target.

    Raises:
        RuntimeError: If that takes too long.
    """
    deadline = time.monotonic() + _LIMIT_SECONDS
    while (found := _met(cluster, prefix)) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{found} of {count} PruneJobs met their target within {_LIMIT_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)


def own_writes(port: int) -> int:
    """Return how many writes Coppice's operator has counted, Events among them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        text = response.read().decode()
    return round(
        sum(
            sample.value
            for family in text_string_to_metric_families(text)
            if family.name == "coppice_operator_api_requests"
            for sample in family.samples
            if sample.name.endswith("_total") and sample.labels["verb"] != "GET"
        )
    )


def _met(cluster: Cluster, prefix: str) -> int:
    text = subprocess.run(
        [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), "get", "prunejobs.coppice.dev", "-o",
         'jsonpath={range .items[*]}{.metadata.name} {.status.state}{"\\n"}{end}'],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return sum(line.startswith(prefix) and line.endswith(" TargetMet") for line in text.splitlines())
