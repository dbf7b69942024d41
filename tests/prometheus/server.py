"""Starts the real Prometheus with a configuration of a test's own."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster import binaries
from tests.waiting import wait_for

SCRAPE_SECONDS = 0.2


class RealPrometheus:
    """One Prometheus process at a time, on one port."""

    def __init__(self, folder: Path, config: Mapping[str, Any], web: Mapping[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"{'https' if web else 'http'}://127.0.0.1:{self.port}"
        (folder / "prometheus.yml").write_text(yaml.safe_dump(dict(config)))
        (folder / "web.yml").write_text(yaml.safe_dump(dict(web or {})))
        self.process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def start(self) -> None:
        """Start it, and return when it answers."""
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(binaries.find("prometheus")), f"--config.file={self._folder / 'prometheus.yml'}",
                 f"--web.config.file={self._folder / 'web.yml'}", f"--storage.tsdb.path={self._folder / 'data'}",
                 f"--web.listen-address=127.0.0.1:{self.port}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        self._starts += 1
        wait_for(self._ready, "Prometheus")

    def stop(self) -> None:
        """End it as a killed node would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def value(self, query: str) -> float | None:
        """Ask without TLS; None where there is not exactly one number."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
            found = json.loads(connection.getresponse().read())["data"]["result"]
        return float(found[0]["value"][1]) if len(found) == 1 else None

    def _ready(self) -> bool:
        # Not by asking: with TLS and passwords that takes credentials, and somebody without is turned away too early.
        text = (self._folder / "log").read_text()
        assert self.process is not None and self.process.poll() is None, text[-3000:]
        return text.count("Server is ready to receive web requests") == self._starts


@contextlib.contextmanager
def prometheus(
    folder: Path, config: Mapping[str, Any] | None = None, web: Mapping[str, Any] | None = None
) -> Iterator[RealPrometheus]:
    """Run one; it is ended afterwards."""
    running = RealPrometheus(folder, config or {}, web)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def scraping(targets: Mapping[str, Mapping[str, str]], *, honor_labels: bool = False) -> dict[str, Any]:
    """Return a configuration.

    Args:
        targets: host:port/path of each target, and the labels that a service discovery would give it.
        honor_labels: Whether a target's own labels win over those; else they are renamed to exported_...
    """
    jobs = []
    for number, (target, labels) in enumerate(targets.items()):
        address, _, path = target.partition("/")
        jobs.append(
            {
                "job_name": f"target-{number}",
                "metrics_path": f"/{path}",
                "honor_labels": honor_labels,
                "static_configs": [{"targets": [address], "labels": dict(labels)}],
            }
        )
    interval = f"{round(SCRAPE_SECONDS * 1000)}ms"
    return {"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": jobs}
