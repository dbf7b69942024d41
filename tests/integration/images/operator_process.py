"""The operator of its image, started as a kubelet would start it, without a name for its user."""

from __future__ import annotations

import base64
import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from devcluster import Cluster
from tests.integration.images.buildah import Config, started
from tests.waiting import wait_for


@dataclass(frozen=True)
class Running:
    """An operator that is ready."""

    process: subprocess.Popen[str]
    ready_seconds: float
    """From its start to the first answer of /readyz that is 200; looked at every tenth of a second."""

    @property
    def status(self) -> str:
        """What the kernel says of the process."""
        return Path(f"/proc/{self.process.pid}/status").read_text()

    @property
    def resident_bytes(self) -> int:
        """Memory that it holds now."""
        return int(self.status.partition("VmRSS:")[2].split()[0]) * 1024

    @property
    def cpu_seconds(self) -> float:
        """What it has used of a processor."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


@contextlib.contextmanager
def running(root: Path, config: Config, cluster: Cluster, directory: Path, namespace: str) -> Iterator[Running]:
    """Run the operator of an image against a cluster until the block ends; it must leave with 0."""
    directory.chmod(0o755)
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    server = document["clusters"][0]["cluster"]
    authority = Path(server.pop("certificate-authority")).read_bytes()
    server["certificate-authority-data"] = base64.b64encode(authority).decode()
    (directory / "kubeconfig").write_text(yaml.safe_dump(document))
    (directory / "kubeconfig").chmod(0o644)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    # Without USER, as in an image of somebody else's: the number alone must do.
    bare = replace(config, environment={k: v for k, v in config.environment.items() if k != "USER"})
    options = ["operator", f"--namespace={namespace}", "--host=127.0.0.1", f"--port={port}"]
    log = directory / "log"

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    began = time.monotonic()
    with log.open("w") as stream:
        process = started(
            root, directory, bare, options, {"KUBECONFIG": "/tmp/shared/kubeconfig"}, stdout=stream, stderr=stream
        )
    try:
        wait_for(ready, "the operator of the image")
        yield Running(process, time.monotonic() - began)
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0, log.read_text()
