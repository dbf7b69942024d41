"""The environment, read and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from inference_server.errors import RefusedError
from inference_server.settings import MeterChoice, Settings

MODEL = {"MODEL_URI": "file:///bundle"}


def test_defaults_serve_on_every_address_of_the_pod() -> None:
    settings = Settings.from_environment(MODEL)
    assert (settings.pod_ip, settings.port, settings.drain_seconds) == ("0.0.0.0", 8080, 5.0)
    assert (settings.torch_threads, settings.meter) == (1, MeterChoice.AUTO)


def test_every_variable_is_taken() -> None:
    settings = Settings.from_environment(
        {
            "MODEL_URI": "pvc://models/digits#sha256=" + "a" * 64,
            "CLAIM_MOUNTS": '{"models": "/mnt/models"}',
            "MODEL_NAME": "digits",
            "POD_IP": "127.1.2.3",
            "PORT": "0",
            "DRAIN_SECONDS": "0.5",
            "TORCH_THREADS": "2",
            "METER": "Estimate",
            "PROBE_SECONDS": "0",
            "PROBE_DATASET": "",
            "PROBE_BATCH": "8",
            "MAX_BODY_BYTES": "1000",
            "MAX_WAITING": "3",
            "DEVICE": "cpu",
            "TERMINATION_LOG": "/tmp/log",
        }
    )
    assert settings == Settings(
        model_uri="pvc://models/digits#sha256=" + "a" * 64,
        claim_mounts={"models": Path("/mnt/models")},
        model_name="digits",
        pod_ip="127.1.2.3",
        port=0,
        drain_seconds=0.5,
        torch_threads=2,
        meter=MeterChoice.ESTIMATE,
        probe_seconds=0.0,
        probe_dataset="",
        probe_batch=8,
        max_body_bytes=1000,
        max_waiting=3,
        device="cpu",
        termination_log=Path("/tmp/log"),
    )


def test_an_empty_variable_is_one_not_given() -> None:
    assert Settings.from_environment({**MODEL, "POD_IP": "", "PORT": ""}).port == 8080


@pytest.mark.parametrize(
    ("environ", "want"),
    [
        pytest.param({}, "MODEL_URI is not set", id="no-model"),
        pytest.param({"PORT": "http"}, "PORT is 'http': a number from 0 to 65535", id="port-not-a-number"),
        pytest.param({"PORT": "70000"}, "PORT is '70000': a number from 0 to 65535", id="port-too-large"),
        pytest.param({"DRAIN_SECONDS": "nan"}, "DRAIN_SECONDS is 'nan'", id="drain-nan"),
        pytest.param({"DRAIN_SECONDS": "-1"}, "DRAIN_SECONDS is '-1'", id="drain-negative"),
        pytest.param({"METER": "nvml"}, "METER is 'nvml': one of Auto, NVML, Estimate", id="meter"),
        pytest.param({"CLAIM_MOUNTS": "{"}, "CLAIM_MOUNTS is '{': not JSON", id="mounts-not-json"),
        pytest.param({"CLAIM_MOUNTS": "[]"}, "a JSON object of claim to mount path", id="mounts-a-list"),
        pytest.param({"CLAIM_MOUNTS": '{"a": 1}'}, "a JSON object of claim to mount path", id="mounts-number"),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], want: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        Settings.from_environment(environ if not environ else {**MODEL, **environ})
    assert want in str(refusal.value)
