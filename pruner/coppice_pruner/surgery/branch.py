"""Depth: what is left of a residual branch when every channel inside it is gone.

The layer that reads the branch's last channels then gives its bias, whatever the input. So the layer becomes that
constant, and everything that only led to it is dead and runs no more. That is exactly the dense model with all channels
of the group masked: the invariant covers depth as it covers width.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from coppice_pruner.surgery.layers import CONVOLUTIONS, is_layer, layer_widths

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.ELU)


class Constant(nn.Module):
    """Gives one value a channel, in the shape that the layer it stands for would give.

    Args:
        bias: Shape (C,).
        spatial: Number of spatial dimensions behind the channels; 0 has the channels last.
        stride: By how much the dead branch makes each spatial dimension smaller.
    """

    def __init__(self, bias: Tensor, spatial: int, stride: int = 1) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias)
        self.spatial, self.stride = spatial, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of constants; of the input only the shape matters."""
        if not self.spatial:
            return self.bias.expand(*x.shape[:-1], -1).clone()
        shape = self.bias.view(1, -1, *(1 for _ in range(self.spatial)))
        # A copy, since what follows may add to it in place.
        return shape.expand(x.shape[0], -1, *(-(-size // self.stride) for size in x.shape[2:])).clone()


class DroppedAttention(nn.Module):
    """Stands for an attention module that is gone: its output layer's bias, and no weights to show.

    Args:
        bias: Shape (hidden size,); None passes the hidden states through to an output layer outside the module.
    """

    def __init__(self, bias: Tensor | None) -> None:
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        """Return what the attention would give with every head masked."""
        return (hidden_states if self.bias is None else self.bias.expand_as(hidden_states).clone()), None


def constant_of(layer: nn.Module) -> Constant:
    """Return what a layer gives when everything it reads is zero."""
    outputs, bias = layer_widths(layer)[1], layer.bias
    like = next(layer.parameters())
    value = bias.detach().clone() if isinstance(bias, Tensor) else torch.zeros(outputs).to(like)
    spatial = len(layer.kernel_size) if isinstance(layer, CONVOLUTIONS) else 0
    stride = int(layer.stride[0]) if isinstance(layer, CONVOLUTIONS) else 1
    return Constant(value, spatial, stride)


def remove_dead(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Replace, in place, layers and norms that no output depends on by nothing.

    Args:
        model: After `Constant`s were put in.
        inputs: One batch; only its shapes and, for integers, its values matter.
    """
    maps = {name: item for name, item in model.named_modules() if isinstance(item, Constant) and item.spatial}
    before = _output_shapes(model, inputs, maps) if maps else {}
    for name in _dead(model, inputs):
        model.set_submodule(name, nn.Identity())
    if maps:
        _set_strides(model, inputs, maps, before)


def _dead(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[str]:
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            outputs[name] = output

    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: keep(name, output))
        for name, module in model.named_modules()
        # An activation that works in place would change what passes the branch by.
        if is_layer(module)
        or isinstance(module, (*_NORMS, *_ACTIVATIONS))
        or type(module).__name__.endswith(("RMSNorm", "LayerNorm"))
    ]
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in required:
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sums = [item.float().sum() for item in tensors(model(*inputs)) if item.is_floating_point()]
            total = torch.stack(sums).sum()
            if not outputs or not total.requires_grad:
                return []
            gradients = torch.autograd.grad(total, list(outputs.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
        for parameter, was_required in required:
            parameter.requires_grad_(was_required)
    return [name for name, gradient in zip(outputs, gradients, strict=True) if gradient is None]


def _output_shapes(
    model: nn.Module, inputs: tuple[Tensor, ...], modules: dict[str, Constant]
) -> dict[str, torch.Size]:  # fmt: skip
    shapes: dict[str, torch.Size] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: shapes.update({name: output.shape}))
        for name, module in modules.items()
    ]
    _run(model, inputs, handles)
    return shapes


def _set_strides(
    model: nn.Module, inputs: tuple[Tensor, ...], constants: dict[str, Constant], wanted: dict[str, torch.Size]
) -> None:
    """Have every constant give the shape it gave before: with strided layers gone, a larger one reaches it."""

    def adjust(module: nn.Module, given: tuple[Tensor, ...], name: str) -> None:
        assert isinstance(module, Constant)
        if name in wanted:
            module.stride = max(1, round(given[0].shape[2] / wanted[name][2]))

    # Before it runs, since the sum behind it fails as long as the shape is wrong.
    handles = [
        module.register_forward_pre_hook(lambda item, given, name=name: adjust(item, given, name))
        for name, module in constants.items()
    ]
    _run(model, inputs, handles)


def _run(model: nn.Module, inputs: tuple[Tensor, ...], handles: list[torch.utils.hooks.RemovableHandle]) -> None:
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()


def tensors(output: object) -> Iterator[Tensor]:
    """Yield every tensor of a model's output, however it is nested."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict) or hasattr(output, "values"):
        for item in output.values():
            yield from tensors(item)
    elif isinstance(output, tuple | list):
        for item in output:
            yield from tensors(item)
