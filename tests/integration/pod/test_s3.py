"""A run with model, checkpoints and artifacts in S3: moto's server stands in for a bucket, s3fs is the real client."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

import coppice_pruner
from coppice_api.run import Outcome, RunReport
from coppice_pruner.bundle import export_bundle
from coppice_pruner.errors import InputRefusedError, PrunerError
from coppice_pruner.storage import open_place
from tests import machine
from tests.integration.pod.support import pod

BUCKET = "models"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a bucket; credentials and endpoint are in the environment, as a Secret puts them into a pod's."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    yield f"s3://{BUCKET}"
    server.stop()
    # It keeps one client for all who give the same arguments, and with it the address of this server.
    S3FileSystem.clear_instance_cache()


def names(prefix: str) -> set[str]:
    found = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return {item["Key"] for item in found.get("Contents", ())}


def test_a_run_killed_on_the_way_goes_on_from_its_checkpoint_in_the_bucket(bucket: str, tmp_path: Path) -> None:
    model, _ = machine.dense_model(epochs=4)
    export_bundle(model, tmp_path / "dense")
    open_place(bucket, field="model.uri", claim_mounts={}).publish(tmp_path / "dense", "dense", last="manifest.json")
    config = machine.config(
        tmp_path, model__uri=f"{bucket}/dense", output__uri=f"{bucket}/runs", algorithm__maxIterations=2,
        objective__energyReductionPercent=90, objective__maxAccuracyDropPoints="50",
    )  # fmt: skip
    config = config.model_copy(update={"measurement": config.measurement.model_copy(update={"window_seconds": 1})})
    text = config.model_dump_json(by_alias=True)
    prefix = config.artifacts_uri.removeprefix(f"{bucket}/")
    with pod(text) as process:
        deadline = time.monotonic() + 90
        while not any(name.endswith("/state.json") for name in names(f"{prefix}/checkpoints/")):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with pod(text) as process:
        output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert "going on after step" in output
    report = RunReport.model_validate_json((tmp_path / "termination-log").read_text())
    assert report.outcome in (Outcome.TARGET_MET, Outcome.TARGET_NOT_MET)
    assert report.artifact is not None
    assert report.artifact.uri.startswith(f"{bucket}/runs/")
    made = open_place(report.artifact.uri, field="artifact.uri", claim_mounts={}).fetch("", tmp_path / "scratch")
    assert coppice_pruner.load_bundle(made).pruning_plan


def test_a_bucket_that_is_not_there_is_refused_by_name(bucket: str, tmp_path: Path) -> None:
    place = open_place("s3://no-such-bucket/dense", field="spec.model.uri", claim_mounts={})
    with pytest.raises(InputRefusedError, match="no-such-bucket"):
        place.fetch("", tmp_path)


def test_a_store_that_does_not_answer_may_be_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    # Nobody listens on the port of the discard service.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(PrunerError, match="cannot read s3://models/dense") as caught:
        open_place("s3://models/dense", field="spec.model.uri", claim_mounts={}).fetch("", tmp_path)
    # An input that is refused is not tried again.
    assert not isinstance(caught.value, InputRefusedError)
    S3FileSystem.clear_instance_cache()
