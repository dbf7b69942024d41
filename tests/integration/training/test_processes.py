"""Two processes that torchrun started, over gloo: they train as torch's own DDP does and decide as one process does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both processes of `ranks` left what they found."""
    directory = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         "--no-python", sys.executable, "-W", "ignore", "-m", "tests.integration.training.ranks", str(directory),
         str(port)],
        timeout=250, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return directory


def test_both_hold_one_model_and_it_is_the_one_that_a_single_process_trains(ranks: Path) -> None:
    first, second = (load_file(ranks / f"odd-{rank}.safetensors") for rank in (0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, load_file(ranks / "alone.safetensors"), rtol=1e-3, atol=1e-4)


def test_gradients_are_averaged_as_torchs_own_ddp_does(ranks: Path) -> None:
    ours, ddp = load_file(ranks / "even-0.safetensors"), load_file(ranks / "ddp-0.safetensors")
    torch.testing.assert_close(ours, ddp, rtol=1e-4, atol=1e-5)


def test_the_pods_of_a_run_decide_what_one_pod_does_and_leave_one_report_and_one_bundle(ranks: Path) -> None:
    two, one = (_decisions(ranks / name) for name in ("two", "one"))
    assert two == one
    assert two["plan"]
    assert [json.loads((ranks / f"two-{rank}.json").read_text()) for rank in (0, 1)] == [0, 0]


def _decisions(directory: Path) -> dict[str, Any]:
    report = json.loads((directory / "termination-log").read_text())
    (bundle,) = (directory / "artifacts").glob("model-*")
    manifest = json.loads((bundle / "manifest.json").read_text())
    return {
        "plan": manifest["pruningPlan"],
        "names": sorted(item.name.partition("-")[0] for item in (directory / "artifacts").iterdir()),
        **{name: report[name] for name in ("outcome", "iterations", "rollbacks", "energyReductionRatio")},
    }
