"""Two processes over gloo: what both use is counted, and a lost one ends the other, for the Job to try again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coppice_api.constants import ExitCode
from coppice_api.run import Outcome, RunReport

REPOSITORY = Path(__file__).parents[3]


def start(directory: Path, how: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.integration.training.peers", how, str(directory)],
            cwd=REPOSITORY, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                 "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
        )
        for rank in (0, 1)
    ]  # fmt: skip


@contextlib.contextmanager
def started(directory: Path, how: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Start the two, and leave none behind."""
    processes = start(directory, how)
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            if process.stderr:
                process.stderr.close()


def test_what_every_process_uses_is_counted_and_who_leaves_in_order_is_not_lost(tmp_path: Path) -> None:
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in start(tmp_path, "none")]
    assert [code for _, code in ends] == [0, 0], ends


@pytest.mark.parametrize(
    ("how", "want"),
    [
        ("stop", "process 1 of 2 has not been heard of for 2 s"),
        ("kill", "process 1 of 2 has not been heard of for 2 s"),
        ("error", "process 1 of 2 ended with ValueError"),
    ],
)
def test_a_process_that_is_lost_ends_the_other_so_that_the_job_tries_again(tmp_path: Path, how: str, want: str) -> None:
    with started(tmp_path, how) as (first, _):
        _, log = first.communicate(timeout=120)
        code = first.returncode
        # Gloo sees a connection that breaks before the heartbeat does; either way another try follows.
        if code == ExitCode.PEER_LOST:
            report = RunReport.model_validate_json((tmp_path / "termination-log").read_text())
            assert report.outcome is Outcome.FAILED
            assert want in report.message
            assert "goes on from its last checkpoint" in report.message
        else:
            assert how != "stop", log
            assert code == 1, log
        assert code not in (ExitCode.ANSWERED, ExitCode.INPUT_REFUSED, ExitCode.MEASUREMENT_IMPOSSIBLE)


def test_the_store_that_goes_with_the_first_process_is_missed_by_the_other(tmp_path: Path) -> None:
    with started(tmp_path, "stop") as (first, second):
        deadline = time.monotonic() + 120
        while not (tmp_path / "pid").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.wait()
        second.send_signal(signal.SIGCONT)
        assert second.wait(60) in (1, ExitCode.PEER_LOST)
