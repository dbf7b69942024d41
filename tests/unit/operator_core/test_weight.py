"""What an idle operator holds in memory: nothing that it does not use yet."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["dulwich", "paramiko", "cryptography", "ruamel.yaml"])
def test_what_only_a_delivery_by_git_needs_waits_for_one(package: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, coppice_operator.main; print('\\n'.join(sys.modules))"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert "coppice_operator.delivery.publisher" in loaded
    assert package not in loaded
