"""One operator process, with whatever options a test gives it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

REQUESTS = "coppice_operator_api_requests_total"


class Replica:
    """Use with `with`; it is killed at the end, whatever state it is in."""

    def __init__(self, kubeconfig: Path, log: Path, *options: str) -> None:
        self.log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "coppice_cli.main", "operator", "--host", "127.0.0.1", "--port", str(self.port),
                 *options],
                env={**os.environ, "KUBECONFIG": str(kubeconfig)}, stdout=stream, stderr=stream,
            )  # fmt: skip

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def get(self, path: str) -> str:
        """Return a page, an error's too; nothing when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())
        except OSError:
            return ""

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.get("/readyz") == "ok\n"

    def role(self) -> str:
        return self.get("/readyz?verbose").partition("role: ")[2].partition("\n")[0]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def writes(self, *but: str) -> float:
        """Return how many writes it has sent, all verbs but those named: a leader renews its Lease by PUT."""
        return sum(self.value(REQUESTS, verb=verb) for verb in ("POST", "PUT", "PATCH", "DELETE") if verb not in but)

    def lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines of its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]
