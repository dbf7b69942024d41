"""docs/benchmarks/gpu.md from the parts that were measured."""

from __future__ import annotations

from pathlib import Path


def write(directory: Path, documents: Path) -> None:
    """Write the page."""
    raise NotImplementedError
