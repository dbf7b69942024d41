"""A line between an operator and the API server that a test can cut. It forwards bytes and knows nothing of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml


class TcpProxy:
    """Forwards a local port to another. Use with `with`."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._flows = threading.Event()
        self._flows.set()
        self._refuses = False
        self._held: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_: Any) -> None:
        self._flows.set()
        self._listener.close()
        self._close_all()

    def stall(self) -> None:
        """Keep everything that is sent from now on, as a network that is down does."""
        self._flows.clear()

    def drop(self) -> None:
        """Close every connection and every new one."""
        self._refuses = True
        self._close_all()

    def heal(self) -> None:
        """Deliver what was kept, and forward again."""
        self._refuses = False
        self._flows.set()

    def kubeconfig(self, original: Path, target: Path) -> Path:
        """Write a copy of a kubeconfig that leads through here."""
        document = yaml.safe_load(original.read_text())
        for item in document["clusters"]:
            item["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        target.write_text(yaml.safe_dump(document))
        return target

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                inner.close()
                continue
            try:
                outer = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                inner.close()
                continue
            self._held |= {inner, outer}
            for pair in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flows.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _close_all(self) -> None:
        for end in list(self._held):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._held.clear()


def port_of(url: str) -> int:
    """Return the port of a URL."""
    return int(urlparse(url).port or 443)
