"""Other projects' programs, pinned in go.mod here and built by the first who asks: about a minute on 2 cores."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devcluster import binaries

MANY_SECONDS = 600.0
_HERE = Path(__file__).parent


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


@contextmanager
def registry() -> Iterator[str]:
    """Serve a registry of images and charts in memory, without TLS; give its host and port."""
    command = [str(binaries.go()), "tool", "registry", "-port", "0"]
    with subprocess.Popen(command, cwd=_HERE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        try:
            said = ""
            for line in process.stderr:  # Go says first what it fetches
                said += line
                if found := re.search(r"serving on port (\d+)", line):
                    break
            else:
                raise RuntimeError(said)
            yield f"127.0.0.1:{found[1]}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _run(*arguments: str) -> str:
    # What Go says of fetching, the first time on a machine, would stand among what the program says.
    subprocess.run([str(binaries.go()), "mod", "download"], cwd=_HERE, check=True, timeout=MANY_SECONDS)
    return _said([str(binaries.go()), *arguments])


def _said(command: list[str], *, given: str | None = None) -> str:
    done = subprocess.run(
        command, cwd=_HERE, input=given, capture_output=True, text=True, timeout=MANY_SECONDS,
        check=False,
    )  # fmt: skip
    said = (done.stdout + done.stderr).strip()
    return said if said or done.returncode == 0 else f"{command} ended with {done.returncode}"
