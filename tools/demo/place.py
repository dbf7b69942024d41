"""Where the demo runs: a development cluster of its own, or the cluster that KUBECONFIG names."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.shell import DemoError
from devcluster import Cluster, ClusterOptions, binaries
from devcluster.cluster import supervisor_pid

ROOT = Path(__file__).parents[2]
EXAMPLES = (ROOT / "examples", ROOT / "examples" / "inference-server")
NAME = "demo"


@dataclass(frozen=True)
class Place:
    """A cluster with a Prometheus that scrapes its pods."""

    kubeconfig: Path
    kubectl: Path
    prometheus_url: str
    own: bool
    """Made by the demo."""
    operator_port: int = 0
    """Where Prometheus expects the operator; 0 if it does not scrape it."""


@contextmanager
def place(environ: Mapping[str, str], *, keep: bool) -> Iterator[Place]:
    """Give a cluster, and take it down again if it is ours and need not be kept.

    Args:
        environ: KUBECONFIG names a cluster of yours, PROMETHEUS_URL its Prometheus.
        keep: Leave our own cluster up.

    Raises:
        DemoError: If what is named cannot be used.
    """
    kubeconfig = environ.get("KUBECONFIG")
    if kubeconfig:
        if not Path(kubeconfig).is_file():
            raise DemoError(f"KUBECONFIG={kubeconfig} is not a file")
        url = environ.get("PROMETHEUS_URL", "").rstrip("/")
        if not url:
            raise DemoError(
                "KUBECONFIG is set, so the demo uses that cluster; set PROMETHEUS_URL too, the address of a "
                "Prometheus that scrapes its pods, or unset KUBECONFIG for a cluster of the demo's own"
            )
        yield Place(Path(kubeconfig), binaries.kubectl(), url, own=False)
        return
    directory = binaries.cache_directory() / "clusters" / NAME if keep else None
    if directory is not None and supervisor_pid(directory) is not None:
        raise DemoError(
            f"a demo is being kept already; end it with `.venv/bin/python -m devcluster down --name {NAME}`, or look "
            f"around in it with KUBECONFIG={directory / 'kubeconfig'}"
        )
    if directory is not None:
        # What an earlier demo left would be taken for what this one made.
        shutil.rmtree(directory, ignore_errors=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    cluster = Cluster(
        ClusterOptions(
            name=NAME, prometheus=True, nodes=1, python_path=EXAMPLES, directory=directory, detached=keep,
            prometheus_targets=(f"127.0.0.1:{port}",), prometheus_rules=(ROOT / "alerts" / "coppice.yaml",),
        )
    )  # fmt: skip
    failed = True
    cluster.start()
    try:
        assert cluster.prometheus_url is not None
        yield Place(cluster.kubeconfig, cluster.kubectl, cluster.prometheus_url, own=True, operator_port=port)
        failed = False
    finally:
        if failed or not keep:
            cluster.stop()


def client_environment(place: Place) -> dict[str, str]:
    """Return what a program needs to reach the cluster and find the examples' packages."""
    known = [item for item in os.environ.get("PYTHONPATH", "").split(os.pathsep) if item]
    return {
        "KUBECONFIG": str(place.kubeconfig),
        "PYTHONPATH": os.pathsep.join([*(str(item) for item in EXAMPLES), *known]),
    }
