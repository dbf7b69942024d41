"""Work is never lost: killed or out of disk at any moment, a run that goes on ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the process of `kills` found."""
    directory = tmp_path_factory.mktemp("recovery")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.integration.recovery.kills", str(directory)],
        capture_output=True, text=True, timeout=580, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_run_that_is_cut_short_has_something_to_lose(found: dict[str, Any]) -> None:
    steps = found["ending"]["iterations"]
    assert len(steps) >= 2
    assert any(step["accepted"] for step in steps)
    assert found["ending"]["names"] == ["model", "report.json"]
    moments = " ".join(found["moments"])
    for part in (
        "state.json is empty",
        "model.safetensors is empty",
        "attempt.safetensors is empty",
        "within.safetensors is empty",
        "manifest.json is empty",
        "os.rename",
        "FineTuning",
    ):
        assert part in moments


def test_from_every_moment_it_goes_on_to_the_same_bits(found: dict[str, Any]) -> None:
    assert len(found["moments"]) > 50
    assert found["wrong"] == {}


def test_a_run_killed_again_and_again_ends_with_the_same_bits_and_one_bundle(found: dict[str, Any]) -> None:
    assert found["killed"]["differences"] == []
    assert found["killed"]["processes"] > 5


def test_a_full_disk_is_named_and_what_was_done_is_kept(found: dict[str, Any]) -> None:
    """A stand-in for the disk: the write fails where Python asks the operating system for it."""
    assert found["full"]["differences"] == []
    assert found["full"]["processes"] > 5
