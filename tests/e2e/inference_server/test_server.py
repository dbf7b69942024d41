"""The inference server as a process with real bundles, over HTTP: what a fleet relies on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from coppice_pruner.bundle import bundle_digest, export_bundle
from coppice_pruner.data import digits
from coppice_pruner.models import LoadedModel
from coppice_pruner.surgery import find_groups, prune, to_steps
from coppice_pruner.training import evaluate
from tests import machine, programs
from tests.waiting import wait_for

EXAMPLES = Path(__file__).parents[3] / "examples" / "inference-server"


@dataclass(frozen=True)
class Models:
    """A trained model and a pruned one, as bundles in a claim's directory."""

    claim: Path
    dense: LoadedModel
    pruned: LoadedModel


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    claim = tmp_path_factory.mktemp("claim")
    dense, _ = machine.dense_model()
    examples = dense.example_inputs()
    groups = find_groups(dense.module, examples)
    kept = {group.name: tuple(range(0, group.width, 2)) for group in groups}
    pruned = LoadedModel(
        prune(dense.module, examples, kept), dense.architecture, dense.inputs, dense.classes, to_steps(kept, groups)
    )
    export_bundle(dense, claim / "dense")
    export_bundle(pruned, claim / "pruned")
    return Models(claim, dense, pruned)


@dataclass
class Server:
    """One server process."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    termination_log: Path

    def get(self, path: str) -> tuple[int, str]:
        return self._ask(urllib.request.Request(self.url + path))

    def infer(self, images: torch.Tensor, **changes: Any) -> tuple[int, Any]:
        tensor = {
            "name": "input", "shape": list(images.shape), "datatype": "FP32", "data": images.flatten().tolist(),
            **changes,
        }  # fmt: skip
        body = json.dumps({"inputs": [tensor]}).encode()
        headers = {"Content-Type": "application/json"}
        status, text = self._ask(urllib.request.Request(f"{self.url}/v2/models/digits/infer", body, headers))
        return status, json.loads(text)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/v2/health/ready")[0] == 200
        except OSError:
            return False

    def metrics(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def _ask(self, request: urllib.request.Request) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@contextmanager
def serving(models: Models, uri: str, directory: Path, **environment: str) -> Iterator[Server]:
    """Start a server as the Deployment does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log, termination_log = directory / "server.log", directory / "termination-log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "inference_server"],
            env={
                **os.environ, "PYTHONPATH": str(EXAMPLES), "MODEL_URI": uri, "MODEL_NAME": "digits",
                "CLAIM_MOUNTS": json.dumps({"fleet-models": str(models.claim)}), "POD_IP": "127.0.0.1",
                "PORT": str(port), "DRAIN_SECONDS": "0.5", "TERMINATION_LOG": str(termination_log), **environment,
            },
            stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        yield Server(process, f"http://127.0.0.1:{port}", log, termination_log)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)


@pytest.mark.parametrize("name", ["dense", "pruned"])
def test_a_verified_bundle_gives_the_models_own_answers_and_figures(models: Models, name: str, tmp_path: Path) -> None:
    model = getattr(models, name)
    digest = bundle_digest(models.claim / name)
    data = digits()
    with serving(models, f"pvc://fleet-models/{name}#sha256={digest}", tmp_path) as server:
        wait_for(server.ready, "the server")
        for count in (1, 7, 32):
            images = data.evaluation.inputs[0][:count]
            status, answer = server.infer(images)
            assert status == 200
            assert answer["model_version"] == digest
            with torch.inference_mode():
                want = model.module(images)
            outputs = {item["name"]: item for item in answer["outputs"]}
            assert outputs["class"]["data"] == want.argmax(dim=1).tolist()
        metadata = json.loads(server.get("/v2/models/digits")[1])
        assert metadata["name"] == "digits"
        assert metadata["inputs"][0]["shape"] == [-1, 1, 8, 8]
        wait_for(lambda: "coppice_served_accuracy_ratio" in server.metrics(), "the probe")
        metrics = server.metrics()
        assert programs.promtool(server.get("/metrics")[1]) == ""
        labels = {"digest": digest}
        want_accuracy = evaluate(model.module, data.evaluation, data.task).accuracy_ratio
        assert metrics["coppice_served_accuracy_ratio"] == [(labels, pytest.approx(want_accuracy))]
        ((energy_labels, joules),) = metrics["coppice_served_energy_joules_total"]
        ((_, inferences),) = metrics["coppice_served_inferences_total"]
        # There is no counter here, and the label says so.
        assert energy_labels == {**labels, "provenance": "Estimated"}
        assert 0 < joules / inferences < 1
        assert ({**labels, "code": "200"}, 3.0) in metrics["coppice_served_requests_total"]
        assert metrics["coppice_served_request_duration_seconds_count"] == [(labels, 3.0)]
        assert metrics["coppice_served_memory_bytes"][0][1] > 1000


def test_what_is_not_the_protocol_is_refused_with_the_reason(models: Models, tmp_path: Path) -> None:
    with serving(models, "pvc://fleet-models/dense", tmp_path, MAX_BODY_BYTES="20000") as server:
        wait_for(server.ready, "the server")
        images = digits().evaluation.inputs[0][:2]
        for changes, said in (
            ({"name": "pixels"}, "input"),
            ({"datatype": "INT64"}, "FP32"),
            ({"shape": [2, 1, 8, 9]}, "shape"),
            ({"data": [1.0]}, ""),
        ):
            status, answer = server.infer(images, **changes)
            assert status == 400, changes
            assert said in answer["error"]
        assert server.get("/v2/models/letters")[0] == 404
        assert server.infer(digits().evaluation.inputs[0][:200])[0] == 413
        # And it still serves.
        assert server.infer(images)[0] == 200


@pytest.mark.parametrize("case", ["digest", "damaged", "missing", "claim"])
def test_a_bundle_that_is_not_the_one_is_never_served(models: Models, case: str, tmp_path: Path) -> None:
    uri = {
        "digest": f"pvc://fleet-models/dense#sha256={'b' * 64}",
        "damaged": "pvc://fleet-models/damaged",
        "missing": "pvc://fleet-models/nothing",
        "claim": "pvc://other/dense",
    }[case]
    said = {"digest": "b" * 64, "damaged": "model.safetensors", "missing": "nothing", "claim": "other"}[case]
    if case == "damaged":
        target = models.claim / "damaged"
        target.mkdir()
        for file in (models.claim / "dense").iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        with (target / "model.safetensors").open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"\x7f")
    with serving(models, uri, tmp_path) as server:
        assert server.process.wait(timeout=60) != 0
        assert said in server.termination_log.read_text()


def test_a_server_that_is_told_to_stop_answers_what_it_was_asked(models: Models, tmp_path: Path) -> None:
    with serving(models, "pvc://fleet-models/dense", tmp_path, DRAIN_SECONDS="2") as server:
        wait_for(server.ready, "the server")
        images = digits().evaluation.inputs[0][:16]
        answers: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answers.append(server.infer(images)[0])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(answers) > 20, "traffic")
        server.process.send_signal(signal.SIGTERM)
        # Not ready for new clients, and still answering those who have not heard yet.
        wait_for(lambda: server.get("/v2/health/ready")[0] != 200, "the drain")
        before = len(answers)
        wait_for(lambda: len(answers) > before + 10, "answers while draining")
        stop.set()
        for thread in threads:
            thread.join()
        assert set(answers) == {200}
        assert server.process.wait(timeout=20) == 0
