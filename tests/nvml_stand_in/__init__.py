"""Builds the stand-in for libnvidia-ml.so.1; see nvml_stand_in.c. It shows that the call path is right, not that a GPU
measures what it should: no GPU was at hand."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "nvml_stand_in.c"


def build(directory: Path) -> Path:
    """Compile the library into a directory and return the directory, for LD_LIBRARY_PATH."""
    target = directory / "libnvidia-ml.so.1"
    command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(target), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return directory
