"""Stand-ins for what stands around a rollout through Git: a GitOps controller, and a Prometheus."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs

from tests.git_servers.repository import FleetRepository
from tests.integration.conftest import Kubectl
from tests.serving import serving


class ToolStandIn:
    """A stand-in for Flux: clones the branch, builds it with kustomize and applies it, again and again.

    Args:
        repository: What it applies.
        kubectl: Of the cluster.
        namespace: Where to.
        folder: Its working directory.
    """

    def __init__(self, repository: FleetRepository, kubectl: Kubectl, namespace: str, folder: Path) -> None:
        self._repository, self._kubectl, self._namespace, self._folder = repository, kubectl, namespace, folder
        self._stop = threading.Event()
        self.applied: list[str] = []
        self.failed: list[str] = []

    def sync(self) -> None:
        """Apply the branch once, if it is new."""
        head = self._repository.head()
        if self.applied and self.applied[-1] == head:
            return
        self._repository.check_out(self._folder)
        built = self._kubectl.run("kustomize", str(self._folder / "apps"))
        if built.returncode:
            self.failed.append(built.stderr)
            return
        file = self._folder / "built.yaml"
        file.write_text(built.stdout)
        self._kubectl.must(
            "-n", self._namespace, "apply", "--server-side", "--field-manager=kustomize-controller", "-f", str(file)
        )
        self.applied.append(head)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Apply whatever is new until the end."""

        def work() -> None:
            while not self._stop.wait(0.3):
                self.sync()

        thread = threading.Thread(target=work, name="gitops", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(30)


@contextlib.contextmanager
def prometheus_stand_in(value: Callable[[str], float]) -> Iterator[str]:
    """A stand-in for Prometheus: one number for a query; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"][0]
            result = [{"metric": {}, "value": [0, str(value(query))]}]
            text = json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler, "prometheus") as address:
        yield f"http://{address}"
