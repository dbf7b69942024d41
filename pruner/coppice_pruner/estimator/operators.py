"""What a model does for one batch: every operator with its operations and the bytes it moves.

Operators are caught below the modules, where torch dispatches them, so functions, methods and modules count alike.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from coppice_pruner.surgery import evaluating

VECTOR_CHANNELS = 16
"""Kernels of convolutions work on so many channels at once and fill up what is missing."""


class Kind(StrEnum):
    """Operators that a device runs alike."""

    CONVOLUTION = "convolution"
    POINTWISE = "pointwise"
    """A convolution of 1x1."""
    DEPTHWISE = "depthwise"
    """A convolution in groups."""
    MATMUL = "matmul"
    ATTENTION = "attention"
    ELEMENTWISE = "elementwise"
    TRANSCENDENTAL = "transcendental"
    """Element by element, with an exponential."""
    REDUCTION = "reduction"
    """Norms and means."""
    POOLING = "pooling"
    """Windows of an image."""
    VIEW = "view"
    """Moves nothing."""


@dataclass(frozen=True)
class Operator:
    """One operator in one forward pass of a batch."""

    layer: str
    """The innermost module that called it; empty for the model itself."""
    kind: Kind
    name: str
    flops: float
    padded_flops: float
    """With channels filled up to whole vectors; equal to `flops` for everything but convolutions."""
    activation_bytes: float
    """Read and written, weights left out."""
    weight_bytes: float
    floating_share: float = 1.0
    """Of the bytes, what another precision changes."""

    @property
    def bytes(self) -> float:
        """All bytes read and written."""
        return self.activation_bytes + self.weight_bytes


_TRANSCENDENTAL = {"gelu", "silu", "sigmoid", "tanh", "exp", "_softmax", "hardswish", "mish", "softplus", "erf", "elu"}
_REDUCTION = {
    "native_layer_norm", "native_batch_norm", "_native_batch_norm_legit_no_training", "native_group_norm", "mean",
    "sum",
    "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "amax", "max", "cudnn_batch_norm", "rms_norm", "_fused_rms_norm",
    "var_mean",
}  # fmt: skip
_POOLING = {"max_pool2d_with_indices", "max_pool2d", "avg_pool2d", "max_pool1d", "max_pool3d_with_indices"}
_NOT_VIEWS = {"_to_copy", "clone", "copy_", "contiguous"}


class _Recorder(TorchDispatchMode):
    def __init__(self, stack: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[Operator] = []
        self._stack = stack

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators.append(_operator(self._stack[-1] if self._stack else "", func, args, kwargs or {}, result))
        return result


@contextlib.contextmanager
def _attention_taken_apart() -> Iterator[None]:
    """Keep nn.MultiheadAttention from its one operator for everything, whose operations nobody counts."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@_attention_taken_apart()
def record_operators(
    run: nn.Module | Callable[[], object], example_inputs: tuple[Tensor, ...] = ()
) -> tuple[Operator, ...]:
    """Return the operators of one forward pass, in the order in which they run.

    Args:
        run: A model, put through one batch in eval mode and not changed; or any piece of work.
        example_inputs: One batch, for a model.
    """
    if not isinstance(run, nn.Module):
        recorder = _Recorder(())
        with torch.no_grad(), recorder:
            run()
        return tuple(recorder.operators)
    stack: list[str] = []
    handles = []
    for name, module in run.named_modules():
        handles.append(module.register_forward_pre_hook(lambda _module, _inputs, name=name: stack.append(name)))
        handles.append(module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True))
    recorder = _Recorder(stack)
    try:
        with evaluating(run), torch.no_grad(), recorder:
            run(*example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(recorder.operators)


def _operator(layer: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Operator:
    packet = func._overloadpacket
    name = packet.__name__
    inputs, outputs = _tensors((args, kwargs)), _tensors(result)
    kind = _kind(name, func, args, inputs, outputs)
    if kind is Kind.VIEW:
        return Operator(layer, kind, name, 0.0, 0.0, 0.0, 0.0)
    flops = 0.0
    if packet in flop_registry:
        flops = float(flop_registry[packet](*args, **kwargs, out_val=result))
    weighing = _WEIGHTS.get(name, ())
    weight_bytes = sum(_size(item) for position, item in enumerate(inputs) if position in weighing)
    total = sum(_size(item) for item in (*inputs, *outputs))
    floating = sum(_size(item) for item in (*inputs, *outputs) if item.is_floating_point())
    padding = 1.0
    if kind in (Kind.CONVOLUTION, Kind.POINTWISE):
        out_channels, in_channels = inputs[1].shape[:2]
        padding = _filled(out_channels) / out_channels
        # The first layers of a network read their few channels one by one.
        padding *= _filled(in_channels) / in_channels if in_channels > VECTOR_CHANNELS else 1.0
    return Operator(
        layer, kind, name, flops, flops * padding, float(total - weight_bytes), float(weight_bytes),
        floating / total if total else 1.0,
    )  # fmt: skip


_WEIGHTS = {"convolution": (1, 2), "addmm": (0, 2), "mm": (1,), "linear": (1, 2)}
"""Which inputs are weights. Products of two activations are batched (bmm) wherever models make them."""


def _kind(name: str, func: Any, args: tuple[Any, ...], inputs: list[Tensor], outputs: list[Tensor]) -> Kind:
    if name in ("convolution", "_convolution", "conv2d", "conv1d", "conv3d"):
        weight = inputs[1]
        channels = inputs[0].shape[1]
        if weight.shape[1] != channels:
            return Kind.DEPTHWISE
        return Kind.POINTWISE if math.prod(weight.shape[2:]) == 1 else Kind.CONVOLUTION
    if name in ("addmm", "mm", "bmm", "baddbmm", "linear", "matmul", "addmv", "mv", "dot"):
        return Kind.MATMUL
    if "scaled_dot_product" in name:
        return Kind.ATTENTION
    if name in _POOLING:
        return Kind.POOLING
    if name in _REDUCTION:
        return Kind.REDUCTION
    if name.rstrip("_") in _TRANSCENDENTAL or name in _TRANSCENDENTAL:
        return Kind.TRANSCENDENTAL
    storages = {item.untyped_storage().data_ptr() for item in inputs}
    moves = name in _NOT_VIEWS or name.endswith("_") or not outputs
    if func.is_view or (not moves and all(item.untyped_storage().data_ptr() in storages for item in outputs)):
        return Kind.VIEW
    return Kind.ELEMENTWISE


def _filled(channels: int) -> int:
    return -(-channels // VECTOR_CHANNELS) * VECTOR_CHANNELS


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [tensor for item in value for tensor in _tensors(item)]
