"""The pod as a process: its exit codes, its termination message and what a signal does."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request
from pathlib import Path

from coppice_api.run import Outcome, RunReport
from coppice_pruner.bundle import export_bundle
from tests import machine, programs
from tests.integration.pod.support import pod


def test_a_pod_leaves_its_report_and_exits_as_the_contract_says(tmp_path: Path) -> None:
    config = machine.config(tmp_path, model__uri="file:///nowhere")
    config = config.model_copy(update={"measurement": config.measurement.model_copy(update={"window_seconds": 1})})
    with pod(config.model_dump_json(by_alias=True)) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 4, output
    report = RunReport.model_validate_json((tmp_path / "termination-log").read_text())
    assert report.outcome is Outcome.INPUT_REFUSED
    assert "there is no directory /nowhere" in report.message


def test_a_contract_of_another_version_is_refused() -> None:
    with pod(json.dumps({"schemaVersion": "coppice.dev/run/v9"})) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 4, output
    assert "use images of one version" in output


def test_sigterm_ends_a_pod_at_once_and_its_checkpoint_stays(tmp_path: Path) -> None:
    model, _ = machine.dense_model(epochs=4)
    export_bundle(model, tmp_path / "dense")
    config = machine.config(tmp_path, objective__energyReductionPercent=90, objective__maxAccuracyDropPoints="50")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    measurement = config.measurement.model_copy(update={"window_seconds": 1})
    config = config.model_copy(update={"measurement": measurement, "http_port": port})
    checkpoints = Path(config.artifacts_uri.removeprefix("file://")) / "checkpoints"
    with pod(config.model_dump_json(by_alias=True)) as process:
        deadline = time.monotonic() + 60
        while not (checkpoints.is_dir() and any(checkpoints.glob("0*"))):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            metrics = response.read().decode()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 143, output
    assert any(checkpoints.glob("0*/state.json"))
    assert not (tmp_path / "termination-log").exists()
    assert "coppice_layer_energy_joules{" in metrics
    assert programs.promtool(metrics) == ""
