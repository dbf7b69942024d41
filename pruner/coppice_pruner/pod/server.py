"""/metrics, /progress and /healthz on one port, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from coppice_pruner.pod.metrics import RunCollector
from coppice_pruner.run import Journal

_log = logging.getLogger(__name__)


class RunServer:
    """Serves a journal while the run works.

    Args:
        journal: Of the run; None says no more than that this pod lives.
        host: Address to bind to.
        port: 0 takes a free one.
        labels: On every series of /metrics: which run it is.
        carbon_intensity_grams_per_kilowatt_hour: None reports no grams.

    Raises:
        OSError: If the port is taken.
    """

    def __init__(
        self,
        journal: Journal | None,
        host: str,
        port: int,
        *,
        labels: Mapping[str, str] | None = None,
        carbon_intensity_grams_per_kilowatt_hour: int | None = None,
    ) -> None:
        registry = CollectorRegistry()
        if journal is not None:
            registry.register(RunCollector(journal, labels or {}, carbon_intensity_grams_per_kilowatt_hour))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE_PLAIN_1_0_0, generate_latest(registry))
                elif self.path == "/progress" and journal is not None:
                    text = journal.progress.model_dump_json(by_alias=True, exclude_none=True)
                    self._answer(200, "application/json", text.encode())
                elif self.path == "/healthz":
                    self._answer(200, "text/plain; charset=utf-8", b"ok\n")
                else:
                    self._answer(404, "text/plain; charset=utf-8", b"try /metrics, /progress or /healthz\n")

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                _log.debug(format, *args)

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> RunServer:
        """Start answering."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
