"""The machine that figures come from."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from coppice_pruner.meters.estimate import cpu_name

ROOT = Path(__file__).parents[2]


def machine() -> dict[str, Any]:
    """Return what a figure depends on besides the code; BENCH_COMMIT names it where the code has no history."""
    commit = (
        os.environ.get("BENCH_COMMIT")
        or subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()
    )
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "commit": commit,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
