"""Open Inference Protocol v2: what is read, what is refused, what is answered."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from inference_server.errors import RequestError
from inference_server.protocol import InferenceRequest, TensorSpec, answer, model_metadata, parse_request

SPEC = TensorSpec("input", (1, 2, 2))


def request(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "input", "shape": [2, 1, 2, 2], "datatype": "FP32", "data": [0, 1, 2, 3, 4, 5, 6, 7]}
    tensor.update(changes)
    return {"inputs": [tensor]}


def parse(document: Any) -> InferenceRequest:
    return parse_request(json.dumps(document).encode(), SPEC)


def test_flat_data_is_row_major() -> None:
    want = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    batch = parse(request()).batch
    np.testing.assert_array_equal(batch, want)
    assert batch.dtype == np.float32


def test_nested_data_is_the_same() -> None:
    nested = np.arange(8.0).reshape(2, 1, 2, 2).tolist()
    np.testing.assert_array_equal(parse(request(data=nested)).batch, parse(request()).batch)


def test_id_and_outputs_are_kept() -> None:
    parsed = parse({**request(), "id": "42", "outputs": [{"name": "class"}, {"name": "class"}]})
    assert (parsed.id, parsed.outputs) == ("42", ("class",))


def test_both_outputs_are_the_default() -> None:
    assert parse(request()).outputs == ("logits", "class")


@pytest.mark.parametrize(
    ("document", "want"),
    [
        pytest.param([], "not a JSON object", id="not-an-object"),
        pytest.param({}, "inputs is not a list of one tensor", id="no-inputs"),
        pytest.param({"inputs": [1]}, "inputs is not a list of one tensor", id="input-a-number"),
        pytest.param({"inputs": request()["inputs"] * 2}, "takes 'input' and nothing else", id="two-inputs"),
        pytest.param({**request(), "id": 7}, "id is not a string", id="id"),
        pytest.param({**request(), "outputs": [{"name": "probs"}]}, "this model gives logits and class", id="out"),
        pytest.param({**request(), "outputs": ["class"]}, "not a list of objects", id="outputs-text"),
        pytest.param(request(name="x"), "inputs[0].name is 'x': this model's input is 'input'", id="name"),
        pytest.param(request(datatype="INT64"), "inputs[0].datatype is 'INT64': expected FP32", id="datatype"),
        pytest.param(request(shape=[2, 4]), "shape is [2, 4]: expected [N, 1, 2, 2]", id="rank"),
        pytest.param(request(shape=[2, 1, 4, 1]), "expected [N, 1, 2, 2]", id="sizes"),
        pytest.param(request(shape=[0, 1, 2, 2], data=[]), "N of 1 or more", id="empty-batch"),
        pytest.param(request(shape=[-1, 1, 2, 2]), "N of 1 or more", id="negative"),
        pytest.param(request(shape=[2.0, 1, 2, 2]), "not a list of integers", id="float-shape"),
        pytest.param(request(shape=[True, 1, 2, 2]), "not a list of integers", id="bool-shape"),
        pytest.param(request(data=[1, 2]), "has 2 values, but inputs[0].shape [2, 1, 2, 2] needs 8", id="short"),
        pytest.param(request(data=[[1, 2], [3]]), "rows of unequal length", id="ragged"),
        pytest.param(request(data=[[0, 1, 2, 3], [4, 5, 6, 7]]), "nested as [2, 4]", id="nested-otherwise"),
        pytest.param(request(data=["0"] * 8), "something else than numbers", id="text"),
        pytest.param(request(data=[None] * 8), "something else than numbers", id="null"),
        pytest.param(request(data=[True] * 8), "something else than numbers", id="booleans"),
        pytest.param(request(data=[10**400] * 8), "something else than numbers", id="huge-integer"),
        pytest.param(request(data=[1e39] * 8), "not a finite FP32 number", id="overflow"),
        pytest.param(request(data=[float("nan")] * 8), "not a finite FP32 number", id="nan"),
        pytest.param(request(data="AAAA"), "inputs[0].data is not a list", id="data-text"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(document: Any, want: str) -> None:
    with pytest.raises(RequestError) as refusal:
        parse(document)
    assert refusal.value.status == 400
    assert want in refusal.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "cut", "bytes", "deep"])
def test_a_body_that_is_not_json_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(RequestError) as refusal:
        parse_request(body, SPEC)
    assert refusal.value.status == 400


def test_an_answer_has_logits_and_class_and_the_digest_that_gave_it() -> None:
    logits = np.array([[0.25, 0.5], [1.0, -1.0]], dtype=np.float32)
    document = answer(parse({**request(), "id": "a"}), logits, model_name="digits", model_version="d" * 64)
    assert document == {
        "model_name": "digits",
        "model_version": "d" * 64,
        "id": "a",
        "outputs": [
            {"name": "logits", "shape": [2, 2], "datatype": "FP32", "data": [0.25, 0.5, 1.0, -1.0]},
            {"name": "class", "shape": [2], "datatype": "INT64", "data": [1, 0]},
        ],
    }


def test_metadata_leaves_the_batch_open() -> None:
    document = model_metadata("digits", version="d", spec=SPEC, classes=10, parameters={"uri": "file:///x"})
    assert document["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 2, 2]}]
    assert document["outputs"][0] == {"name": "logits", "datatype": "FP32", "shape": [-1, 10]}
    assert document["versions"] == ["d"]
