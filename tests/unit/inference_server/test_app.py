"""The HTTP surface over a small real module, without a socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import torch
from inference_server.app import State, create_app
from inference_server.energy import CpuEnergy
from inference_server.metrics import Metrics
from inference_server.probe import ProbeSet, evaluate
from inference_server.protocol import TensorSpec
from inference_server.served_model import ServedModel, Worker
from inference_server.settings import Settings
from prometheus_client.parser import text_string_to_metric_families

SHA256 = "5" * 64
SETTINGS = Settings(model_uri="file:///bundle", model_name="digits", max_body_bytes=4096, max_waiting=2)
BODY = {"inputs": [{"name": "input", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 3, 2, 1]}]}


class Identity(torch.nn.Module):
    """Answers its input; waits for `gate`, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.factor = 1.0

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        self.entered.set()
        assert self.gate.wait(10)
        if self.factor == 0:
            raise RuntimeError("out of memory")
        return samples * self.factor


@pytest.fixture
def module() -> Identity:
    return Identity()


@pytest.fixture
async def state(module: Identity) -> AsyncIterator[State]:
    metrics = Metrics(digest=SHA256, uri="file:///bundle")
    metrics.model_loaded(memory_bytes=12, provenance=CpuEnergy.provenance)
    state = State(SETTINGS, metrics, Worker(SETTINGS.max_waiting))
    state.model = ServedModel(
        sha256=SHA256,
        verified=True,
        uri="file:///bundle",
        input=TensorSpec("input", (3,)),
        classes=3,
        memory_bytes=12,
        device=torch.device("cpu"),
        module=module,
        energy=CpuEnergy(10.0),
        metrics=metrics,
    )
    yield state
    module.gate.set()
    state.worker.close()


@pytest.fixture
async def client(state: State) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(state), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client


def samples(state: State) -> dict[tuple[str, ...], float]:
    text = state.metrics.exposition().decode()
    return {
        (
            sample.name,
            *(value for key, value in sorted(sample.labels.items()) if key != "digest"),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("coppice_served")
    }


async def test_the_server_and_the_model_describe_themselves(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2")).json()["name"] == "coppice-inference-server"
    assert (await client.get("/v2/health/live")).status_code == 200
    assert (await client.get("/v2/health/ready")).status_code == 200
    assert (await client.get("/v2/models/digits/ready")).json() == {"name": "digits", "ready": True}
    metadata = (await client.get("/v2/models/digits")).json()
    assert metadata["inputs"][0]["shape"] == [-1, 3]
    assert metadata["parameters"]["verified"] is True


async def test_an_inference_is_answered_and_counted(client: httpx.AsyncClient, state: State) -> None:
    answer = (await client.post("/v2/models/digits/infer", json=BODY)).json()
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    assert outputs == {"logits": [1, 2, 3, 3, 2, 1], "class": [2, 0]}
    assert answer["model_version"] == SHA256
    counted = samples(state)
    assert counted["coppice_served_inferences_total",] == 2
    assert counted["coppice_served_requests_total", "200"] == 1
    assert counted["coppice_served_request_duration_seconds_count",] == 1
    assert counted["coppice_served_energy_joules_total", "Estimated"] > 0


async def test_a_version_is_the_digest(client: httpx.AsyncClient) -> None:
    assert (await client.post(f"/v2/models/digits/versions/{SHA256}/infer", json=BODY)).status_code == 200
    response = await client.post("/v2/models/digits/versions/1/infer", json=BODY)
    assert (response.status_code, response.json()) == (
        404,
        {"error": f"version '1' is not here: '{SHA256}' is"},
    )


@pytest.mark.parametrize(
    ("method", "path", "content", "want"),
    [
        pytest.param("POST", "/v2/models/other/infer", b"{}", 404, id="model"),
        pytest.param("GET", "/v2/models/other", b"", 404, id="metadata"),
        pytest.param("GET", "/v2/models/other/ready", b"", 404, id="model-ready"),
        pytest.param("POST", "/v2/models/digits/infer", b"{", 400, id="json"),
        pytest.param("POST", "/v2/models/digits/infer", b" " * 5000, 413, id="too-large"),
        pytest.param("GET", "/v2/models/digits/infer", b"", 405, id="method"),
        pytest.param("GET", "/v1/models", b"", 404, id="path"),
    ],
)
async def test_errors_are_as_the_protocol_says(
    client: httpx.AsyncClient, method: str, path: str, content: bytes, want: int
) -> None:
    response = await client.request(method, path, content=content)
    assert response.status_code == want
    assert list(response.json()) == ["error"]
    assert response.json()["error"]


async def test_every_answer_is_counted_by_its_code(client: httpx.AsyncClient, state: State) -> None:
    before = samples(state)
    assert before["coppice_served_requests_total", "200"] == 0
    assert before["coppice_served_requests_total", "500"] == 0
    await client.post("/v2/models/digits/infer", content=b"{")
    await client.post("/v2/models/digits/infer", content=b" " * 5000)
    after = samples(state)
    assert after["coppice_served_requests_total", "400"] == 1
    assert after["coppice_served_requests_total", "413"] == 1
    # What was refused cost the model nothing.
    assert after["coppice_served_inferences_total",] == 0


async def test_a_model_that_fails_is_a_500_and_the_server_goes_on(
    client: httpx.AsyncClient, state: State, module: Identity
) -> None:
    module.factor = 0
    response = await client.post("/v2/models/digits/infer", json=BODY)
    assert response.status_code == 500
    assert "the model failed on this request" in response.json()["error"]
    module.factor = float("inf")
    assert (await client.post("/v2/models/digits/infer", json=BODY)).status_code == 500
    module.factor = 1
    assert (await client.post("/v2/models/digits/infer", json=BODY)).status_code == 200
    assert samples(state)["coppice_served_requests_total", "500"] == 2


async def test_health_answers_while_the_model_computes(client: httpx.AsyncClient, module: Identity) -> None:
    module.gate.clear()
    slow = asyncio.create_task(client.post("/v2/models/digits/infer", json=BODY))
    assert await asyncio.to_thread(module.entered.wait, 10)
    assert (await asyncio.wait_for(client.get("/v2/health/ready"), 1)).status_code == 200
    assert not slow.done()
    module.gate.set()
    assert (await slow).status_code == 200


async def test_too_many_waiting_requests_are_turned_away(client: httpx.AsyncClient, module: Identity) -> None:
    module.gate.clear()
    admitted = [asyncio.create_task(client.post("/v2/models/digits/infer", json=BODY)) for _ in range(2)]
    assert await asyncio.to_thread(module.entered.wait, 10)
    refused = await client.post("/v2/models/digits/infer", json=BODY)
    assert refused.status_code == 503
    module.gate.set()
    assert [(await task).status_code for task in admitted] == [200, 200]


async def test_a_loading_server_is_alive_but_not_ready(client: httpx.AsyncClient, state: State) -> None:
    state.model = None
    assert (await client.get("/v2/health/live")).status_code == 200
    assert (await client.get("/v2/health/ready")).status_code == 503
    assert (await client.get("/v2/models/digits/ready")).status_code == 503
    response = await client.post("/v2/models/digits/infer", json=BODY)
    assert (response.status_code, response.json()) == (503, {"error": "the model is being loaded"})


async def test_a_draining_server_answers_and_asks_clients_to_leave(client: httpx.AsyncClient, state: State) -> None:
    assert "connection" not in (await client.post("/v2/models/digits/infer", json=BODY)).headers
    state.draining = True
    assert (await client.get("/v2/health/ready")).status_code == 503
    response = await client.post("/v2/models/digits/infer", json=BODY)
    assert (response.status_code, response.headers["connection"]) == (200, "close")


async def test_the_probe_is_the_share_of_right_answers_and_counts_as_work(state: State) -> None:
    assert state.model is not None
    inputs: Any = torch.eye(3).repeat(2, 1)[:5].numpy()
    labels: Any = torch.tensor([0, 1, 2, 0, 2]).numpy()
    accuracy_ratio = await evaluate(ProbeSet(inputs, labels), 2, state.model, state.worker)
    assert accuracy_ratio == 0.8
    counted = samples(state)
    assert counted["coppice_served_inferences_total",] == 5
    assert counted["coppice_served_energy_joules_total", "Estimated"] > 0
    # A probe is no request.
    assert counted["coppice_served_requests_total", "200"] == 0
