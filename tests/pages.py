"""Pages of docs/ as a person follows them: files with a title are saved under it, commands are run in their order."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

FROM_A_CHECKOUT = ["README.md", "docs/start.md"]
"""Run in a checkout, on this machine: tests/e2e/documents/test_commands.py."""
ON_A_LAPTOP = ["docs/how-to/own-model.md", "docs/how-to/own-data.md", "docs/how-to/cost.md"]
"""Run in an empty directory, on this machine: tests/e2e/documents/test_how_to.py, the last after docs/start.md."""
IN_A_CLUSTER = ["docs/how-to/s3.md", "docs/how-to/several-gpus.md", "docs/how-to/kueue.md", "docs/how-to/approve.md",
                "docs/how-to/rollback.md", "docs/analysis.md", "docs/targets.md"]  # fmt: skip
"""Run against a real API server with the CRDs: tests/integration/documents/test_how_to.py."""
WITH_HELM = ["docs/how-to/prometheus-operator.md", "docs/how-to/air-gapped.md"]
"""Run with helm against a real API server without anything of ours: tests/integration/chart/test_how_to.py."""
BY_THEMSELVES = ["docs/gitops.md", "docs/how-to/several-clusters.md", "examples/01-minimal/README.md",
                 "charts/coppice/README.md"]  # fmt: skip
"""Run by a test of their own: tests/integration/delivery/test_documents.py, clusters/test_clusters.py,
test_commands.py, tests/integration/chart/test_how_to.py."""


@contextlib.contextmanager
def places(*directories: str) -> Iterator[None]:
    """Directories that pages name outside of their own: nothing is there before, and nothing stays."""
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
    try:
        yield
    finally:
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)
            with contextlib.suppress(OSError):  # somebody else's are in it
                Path(directory).parent.rmdir()


def commands(document: Path) -> list[str]:
    """Return the commands of a document's console blocks, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line.startswith("$ ")]


def files(document: Path) -> dict[str, str]:
    """Return the files that a document shows, by the names in their titles."""
    found = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', document.read_text(), re.MULTILINE | re.DOTALL)
    return dict(found)


def follow(
    document: Path, directory: Path, environment: Mapping[str, str] | None = None, *, timeout_seconds: float = 120.0
) -> str:
    """Save a page's files, run its commands, and return what they said; fail where one of them fails."""
    for name, text in files(document).items():
        (directory / name).write_text(text)
    script = "\n".join(["set -euo pipefail", *commands(document)])
    result = subprocess.run(
        ["bash", "-c", script], cwd=directory, capture_output=True, text=True, timeout=timeout_seconds, check=False,
        env={**os.environ, "TERM": "dumb", **(environment or {})},
    )  # fmt: skip
    assert result.returncode == 0, f"{script}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout
