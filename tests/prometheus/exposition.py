"""A stand-in for what pods expose: metrics whose counters grow at known rates."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.serving import serving

Series = dict[str, float]
"""A line of the text format up to its value (`name{label="value"}`), and its value or its growth per second."""


@dataclass
class Page:
    """What one pod shows."""

    counters: Series = field(default_factory=dict)
    """Growth per second."""
    gauges: Series = field(default_factory=dict)
    up: bool = True
    """False: it answers with 503."""
    began: float = field(default_factory=time.monotonic)

    def text(self) -> str:
        """Return the page as it is now."""
        elapsed = time.monotonic() - self.began
        lines = [f"{name} {rate * elapsed}" for name, rate in self.counters.items()]
        lines += [f"{name} {value}" for name, value in self.gauges.items()]
        return "\n".join(lines) + "\n"


@contextlib.contextmanager
def exposed(pages: dict[str, Page]) -> Iterator[str]:
    """Serve each page at /NAME on one free port; yields host:port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.strip("/"))
            body = page.text().encode() if page and page.up else b""
            self.send_response(200 if page and page.up else 503)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler, "exposition") as address:
        yield address
