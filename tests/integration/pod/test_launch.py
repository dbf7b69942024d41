"""A pod that shares its run: what torchrun's processes end with is what the pod ends with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from coppice_api.constants import ENV_LEADER, ENV_NODES, ENV_RUN_CONFIG
from coppice_api.run import Outcome, RunReport
from coppice_pruner.pod.server import RunServer
from tests import machine


def test_refused_input_ends_the_pod_with_the_code_that_the_job_does_not_retry(tmp_path: Path) -> None:
    config = machine.config(tmp_path, model__uri="file:///nowhere")
    config = config.model_copy(update={"measurement": config.measurement.model_copy(update={"window_seconds": 1})})
    # All of the pods of this run are this one, so that nothing is waited for.
    read = f"RunConfig.model_validate_json(os.environ['{ENV_RUN_CONFIG}'])"
    code = "import sys, os; from coppice_api.run import RunConfig; from coppice_pruner.pod.launch import launch"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit(launch({read}))"],
        env={**os.environ, ENV_RUN_CONFIG: config.model_dump_json(by_alias=True), "POD_IP": "127.0.0.1",
             ENV_NODES: "1", ENV_LEADER: "127.0.0.1", "JOB_COMPLETION_INDEX": "0"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr[-3000:]
    report = RunReport.model_validate_json((tmp_path / "termination-log").read_text())
    assert report.outcome is Outcome.INPUT_REFUSED
    assert "there is no directory /nowhere" in report.message


def test_a_contract_of_another_version_is_refused_before_anything_is_waited_for() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "coppice_pruner.pod"],
        env={**os.environ, ENV_RUN_CONFIG: json.dumps({"schemaVersion": "v9"}), ENV_NODES: "2",
             ENV_LEADER: "127.0.0.1", "JOB_COMPLETION_INDEX": "1"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr[-3000:]


def test_a_pod_that_does_not_lead_says_that_it_lives_and_nothing_of_the_run() -> None:
    with RunServer(None, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.port}"
        for path, want in (("/healthz", b"ok\n"), ("/metrics", b"")):
            with urllib.request.urlopen(f"{address}{path}", timeout=5) as response:
                assert response.read() == want
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/progress", timeout=5)
