"""What runs a model where it is deployed, or a sentence that says what is missing."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from coppice_api.prunejob import Measurement, RuntimeKind
from coppice_pruner.deployment import EAGER, answering, runtime_of
from coppice_pruner.errors import InputRefusedError

CPU = torch.device("cpu")


def test_eager_is_the_default_and_answers_with_the_model_itself() -> None:
    model, inputs = nn.Linear(4, 2), torch.randn(3, 4)
    assert Measurement().runtime is RuntimeKind.EAGER
    answer = runtime_of(RuntimeKind.EAGER, CPU).prepare(model, (inputs,))
    torch.testing.assert_close(answer(inputs), model(inputs))


def test_onnx_runtime_that_is_not_installed_is_refused_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputRefusedError, match=r"spec\.measurement\.runtime OnnxRuntime .*coppice\[onnx-runtime\]"):
        runtime_of(RuntimeKind.ONNX_RUNTIME, CPU)


def test_onnx_runtime_of_a_cpu_is_refused_for_a_gpu() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("the onnxruntime installed here is the one for GPUs")
    with pytest.raises(InputRefusedError, match=r"has no CUDAExecutionProvider.*onnxruntime-gpu"):
        runtime_of(RuntimeKind.ONNX_RUNTIME, torch.device("cuda", 0))


def test_whatever_answers_can_be_evaluated() -> None:
    model, inputs = nn.Linear(4, 2), torch.randn(3, 4)
    assert answering(EAGER.prepare(model, (inputs,))) is model
    torch.testing.assert_close(answering(lambda batch: batch * 2).eval()(inputs), inputs * 2)
