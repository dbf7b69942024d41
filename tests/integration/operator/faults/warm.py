"""Operator processes that start in a fraction of a second: forked from one that has imported everything.

What runs in them is the command line of the operator, in a process of its own that SIGKILL ends; only the start of the
interpreter and the imports are shared.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import urllib.request
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from devcluster.supervisor import die_with_parent

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "coppice_cli.main",
        "coppice_operator.main",
        "uvloop",
        "kopf",
        __name__,
    ]
)


class WarmOperator:
    """One operator process at a time.

    Args:
        kubeconfig: How it reaches the API server.
        log: Where it writes.
        arguments: After `coppice operator`.
    """

    def __init__(self, kubeconfig: Path, log: Path, *arguments: str) -> None:
        self._kubeconfig, self.log, self._arguments = kubeconfig, log, arguments
        self.port = 0
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Start one."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        arguments = ["operator", "--host", "127.0.0.1", "--port", str(self.port), *self._arguments]
        self.process: ForkServerProcess = _FORKS.Process(
            target=_serve, args=(arguments, str(self._kubeconfig), str(self.log)), daemon=True
        )
        self.process.start()
        self.starts += 1

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.is_alive()

    def kill(self) -> None:
        """SIGKILL, from any thread; `start` may follow once it is not `alive`."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)

    def restart(self) -> None:
        """Kill it as hard as can be if it is still there, and start another."""
        self.end()
        self.start()

    def end(self) -> None:
        """Kill it, for good."""
        if self.alive:
            self.kill()
        self.process.join()
        self.process.close()

    def get(self, path: str) -> str:
        """Ask its own HTTP server."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
            return str(response.read().decode())

    def passes(self) -> float:
        """Return how many passes this process has made."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics"))
            for sample in family.samples
            if sample.name == "coppice_operator_reconcile_duration_seconds_count"
        )

    def ready(self) -> bool:
        """Whether it says that it is; fails when the process has ended."""
        assert self.alive, self.log.read_text()[-4000:]
        try:
            return self.get("/readyz") == "ok\n"
        except OSError:
            return False


def _serve(arguments: list[str], kubeconfig: str, log: str) -> None:
    die_with_parent()
    # What was imported is shared with the parent as long as no collection touches it.
    gc.freeze()
    os.environ["KUBECONFIG"] = kubeconfig
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from coppice_cli.main import app

    app(arguments)
