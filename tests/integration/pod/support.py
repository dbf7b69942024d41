"""The pod as a process."""

from __future__ import annotations

import os
import subprocess
import sys


def pod(config: str) -> subprocess.Popen[str]:
    """Start a pod on a run contract; its port is of this machine alone."""
    return subprocess.Popen(
        [sys.executable, "-m", "coppice_cli.main", "pod"],
        env={**os.environ, "COPPICE_RUN_CONFIG": config, "POD_IP": "127.0.0.1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
