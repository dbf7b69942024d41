"""What runs a model where it is deployed. A comparison gives the dense and the pruned model the same one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from coppice_api.prunejob import RuntimeKind

Answer = Callable[..., Tensor]
"""Takes a batch of any size, one tensor for each input, and gives the model's outputs."""


class Runtime(Protocol):
    """Prepares models for inference."""

    kind: RuntimeKind
    steers: bool
    """Whether preparing is quick enough to be done after every pruning step. Where it is not, the short measurement
    after a step is eager on both sides; what decides at the end is not."""

    def prepare(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Answer:
        """Return what answers in place of a module.

        Args:
            module: In eval mode, folded, on the runtime's device.
            example_inputs: A batch of two at least, shapes (N, ...), on that device.

        Raises:
            InputRefusedError: If this runtime cannot express the model.
        """
        ...


class Eager:
    """PyTorch as it is: one operator after another."""

    kind = RuntimeKind.EAGER
    steers = True

    def prepare(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Answer:
        """Return the module itself."""
        del example_inputs
        return module.eval()


EAGER = Eager()


class _Answering(nn.Module):
    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._answer(*inputs)


def answering(answer: Answer) -> nn.Module:
    """Return a module that gives a prepared model's answers, so that they can be evaluated as they are deployed."""
    return answer if isinstance(answer, nn.Module) else _Answering(answer)


def runtime_of(kind: RuntimeKind, device: torch.device) -> Runtime:
    """Return the runtime that spec.measurement.runtime names.

    Args:
        kind: Its name.
        device: Where models run.

    Raises:
        InputRefusedError: If it is not to be had here; the message names the field and the fix.
    """
    match kind:
        case RuntimeKind.EAGER:
            return EAGER
        case RuntimeKind.COMPILED:
            from coppice_pruner.deployment.compiled import Compiled

            return Compiled()
        case RuntimeKind.ONNX_RUNTIME:
            from coppice_pruner.deployment.onnx_runtime import OnnxRuntime

            return OnnxRuntime(device)
