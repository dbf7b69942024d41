"""Prometheus' own checks of the rules: they are well formed, and each alert fires when it should."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from devcluster import binaries


@pytest.mark.parametrize("arguments", [["check", "rules", "--lint=all", "--lint-fatal", "coppice.yaml"],
                                       ["test", "rules", "tests.yaml"]])  # fmt: skip
def test_promtool_accepts_the_rules(repository: Path, arguments: list[str]) -> None:
    result = subprocess.run(
        [str(binaries.find("promtool")), *arguments], cwd=repository / "alerts", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
