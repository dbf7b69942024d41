"""Open Inference Protocol v2, the JSON of it: requests in, answers out.

Values in, values out: no model, no socket. `app.py` does the talking and `served_model.py` the computing.

Source: the REST part of the Open Inference Protocol, github.com/kserve/open-inference-protocol,
specification/protocol/inference_rest.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_server.errors import RequestError

FLOAT = "FP32"
INTEGER = "INT64"
LOGITS = "logits"
CLASS = "class"
OUTPUTS = (LOGITS, CLASS)


@dataclass(frozen=True)
class TensorSpec:
    """A model's input, without the batch dimension."""

    name: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Values in one sample."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class InferenceRequest:
    """One request, checked."""

    batch: NDArray[np.float32]
    """The samples, shape (N, *input shape)."""
    id: str | None
    """What the client called it; goes back unchanged."""
    outputs: tuple[str, ...]
    """Outputs to return."""


def parse_request(body: bytes, spec: TensorSpec) -> InferenceRequest:
    """Read an inference request.

    Args:
        body: The HTTP body.
        spec: The model's one input.

    Raises:
        RequestError: 400, naming the field, what was expected and what was found.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _bad("the body is not a JSON object")
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise _bad("id is not a string")
    return InferenceRequest(
        batch=_parse_input(document.get("inputs"), spec),
        id=identifier,
        outputs=_parse_outputs(document.get("outputs")),
    )


def answer(
    request: InferenceRequest, logits: NDArray[np.float32], *, model_name: str, model_version: str
) -> dict[str, Any]:
    """Return the answer to a request.

    Args:
        request: What was asked.
        logits: The model's output, shape (N, classes).
        model_name: Name in the URL.
        model_version: Digest of the bundle that answered.
    """
    tensors = {
        LOGITS: lambda: _tensor(LOGITS, FLOAT, logits),
        CLASS: lambda: _tensor(CLASS, INTEGER, logits.argmax(axis=1)),
    }
    document: dict[str, Any] = {"model_name": model_name, "model_version": model_version}
    if request.id is not None:
        document["id"] = request.id
    document["outputs"] = [tensors[name]() for name in request.outputs]
    return document


def model_metadata(
    name: str, *, version: str, spec: TensorSpec, classes: int, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the answer of /v2/models/<name>; -1 is the batch dimension."""
    return {
        "name": name,
        "versions": [version],
        "platform": "coppice_bundle",
        "inputs": [{"name": spec.name, "datatype": FLOAT, "shape": [-1, *spec.shape]}],
        "outputs": [
            {"name": LOGITS, "datatype": FLOAT, "shape": [-1, classes]},
            {"name": CLASS, "datatype": INTEGER, "shape": [-1]},
        ],
        "parameters": dict(parameters),
    }


def _parse_input(inputs: Any, spec: TensorSpec) -> NDArray[np.float32]:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _bad(f"inputs is not a list of one tensor: this model takes {spec.name!r} and nothing else")
    tensor = inputs[0]
    if tensor.get("name") != spec.name:
        raise _bad(f"inputs[0].name is {tensor.get('name')!r}: this model's input is {spec.name!r}")
    if tensor.get("datatype") != FLOAT:
        raise _bad(f"inputs[0].datatype is {tensor.get('datatype')!r}: expected {FLOAT}")
    shape = tensor.get("shape")
    want = f"[N, {', '.join(map(str, spec.shape))}] with N of 1 or more"
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise _bad(f"inputs[0].shape is not a list of integers: expected {want}")
    if len(shape) != len(spec.shape) + 1 or tuple(shape[1:]) != spec.shape or shape[0] < 1:
        raise _bad(f"inputs[0].shape is {shape}: expected {want}")
    return _parse_data(tensor.get("data"), shape)


def _parse_data(data: Any, shape: Sequence[int]) -> NDArray[np.float32]:
    if not isinstance(data, list):
        raise _bad("inputs[0].data is not a list; the binary tensor extension is not spoken here")
    # The protocol allows nested lists and flat row-major ones. Unequal rows make numpy raise.
    try:
        values = np.array(data)
    except ValueError:
        raise _bad("inputs[0].data has rows of unequal length") from None
    # Text, null and booleans would convert quietly, or fail with numpy's words for it.
    if values.dtype.kind not in "iuf":
        raise _bad("inputs[0].data holds something else than numbers")
    if values.size != math.prod(shape):
        raise _bad(
            f"inputs[0].data has {values.size} values, but inputs[0].shape {list(shape)} needs {math.prod(shape)}"
        )
    if values.ndim > 1 and values.shape != tuple(shape):
        raise _bad(f"inputs[0].data is nested as {list(values.shape)}, inputs[0].shape says {list(shape)}")
    with np.errstate(over="ignore"):
        batch = values.astype(np.float32).reshape(shape)
    # One NaN or infinite sample would come back as NaN, which JSON cannot say.
    if not np.isfinite(batch).all():
        raise _bad(f"inputs[0].data holds a value that is not a finite {FLOAT} number")
    return batch


def _parse_outputs(outputs: Any) -> tuple[str, ...]:
    if outputs is None or outputs == []:
        return OUTPUTS
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise _bad("outputs is not a list of objects")
    names = tuple(output.get("name") for output in outputs)
    for name in names:
        if name not in OUTPUTS:
            raise _bad(f"outputs names {name!r}: this model gives {' and '.join(OUTPUTS)}")
    # A dict keeps the order asked for and drops repetitions.
    return tuple(dict.fromkeys(names))


def _tensor(name: str, datatype: str, values: NDArray[Any]) -> dict[str, Any]:
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "data": values.ravel().tolist()}


def _bad(message: str) -> RequestError:
    return RequestError(400, message)
