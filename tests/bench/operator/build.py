"""The reference operator's program, built once for a machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from devcluster.binaries import cache_directory, go
from tests.bench.operator.candidates import REFERENCE


def build_reference() -> Path:
    """Return the program, built from the sources beside this file if they changed since.

    Raises:
        BinaryError: If there is no Go toolchain.
    """
    sources = sorted(path for path in REFERENCE.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    target = cache_directory() / "bin" / f"bench-reference-{digest}"
    if target.is_file():
        return target
    print("    building the reference operator (once for this machine: about a minute)", flush=True)
    aside = target.with_suffix(".tmp")
    subprocess.run(
        [str(go()), "build", "-mod=readonly", "-trimpath", "-gcflags=all=-dwarf=false", "-o", str(aside), "."],
        cwd=REFERENCE, env={**os.environ, "CGO_ENABLED": "0"}, check=True,
    )  # fmt: skip
    aside.rename(target)
    return target
