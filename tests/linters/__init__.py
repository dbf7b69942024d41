"""Other projects' linters, pinned in go.mod here and built by the first who asks: about a minute on 2 cores."""

from __future__ import annotations

import subprocess
from pathlib import Path

from devcluster import binaries

MANY_SECONDS = 600.0


def actionlint(*files: Path) -> str:
    """Return what actionlint has to say of workflows; empty where it finds nothing."""
    # What it hands to programs that happen to be on PATH would differ between machines.
    return _run("tool", "actionlint", "-shellcheck=", "-pyflakes=", *map(str, files))


def boards(*files: Path) -> str:
    """Return what in dashboards is not in Grafana's schema (boards/main.go); empty where all is."""
    return _run("run", "-mod=readonly", "./boards", *map(str, files))


def promtool(exposition: str) -> str:
    """Return what promtool has to say of a scraped page; empty where it finds nothing."""
    return _said([str(binaries.find("promtool")), "check", "metrics"], given=exposition)


def _run(*arguments: str) -> str:
    return _said([str(binaries.go()), *arguments])


def _said(command: list[str], *, given: str | None = None) -> str:
    done = subprocess.run(
        command, cwd=Path(__file__).parent, input=given, capture_output=True, text=True, timeout=MANY_SECONDS,
        check=False,
    )  # fmt: skip
    said = (done.stdout + done.stderr).strip()
    return said if said or done.returncode == 0 else f"{command} ended with {done.returncode}"
