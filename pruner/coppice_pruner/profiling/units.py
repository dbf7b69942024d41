"""Units: a convolution or linear layer with the norm and activation that follow it, and what they were given.

On every device worth deploying to, norm and activation ride along with the layer before them; measured alone they would
be charged a trip to memory that the deployed model does not make.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from coppice_pruner.surgery import (
    CONVOLUTIONS,
    Attention,
    evaluating,
    find_attention,
    is_depthwise,
    is_layer,
    layer_widths,
)

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.ELU, nn.Sigmoid,
    nn.Tanh, nn.Softplus, nn.Mish, nn.Identity, nn.Dropout, nn.Dropout2d,
)  # fmt: skip
_POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
"""Not fused on most devices, but their cost goes with the channels of the layer before them: on a CPU a pool behind an
early convolution takes as long as the convolution."""


class AttentionCore(nn.Module):
    """What attention does between its layers: scores, softmax and the weighted sum, on tensors of the recorded shape.

    Args:
        head_size: Channels of a head.
        queries_each: Query heads that read one key/value head.
        output: The layer that reads the heads.
    """

    def __init__(self, head_size: int, queries_each: int, output: str) -> None:
        super().__init__()
        self.head_size, self.queries_each, self.output = head_size, queries_each, output

    def forward(self, joined: Tensor) -> Tensor:
        """Return attention of a tensor, shape (N, L, heads * head size), to itself."""
        queries = joined.view(*joined.shape[:-1], -1, self.head_size).transpose(1, 2)
        keys = queries[:, :: self.queries_each].repeat_interleave(self.queries_each, dim=1)
        attended = functional.scaled_dot_product_attention(queries, keys, keys)
        return attended.transpose(1, 2).reshape(joined.shape)


@dataclass(frozen=True)
class Unit:
    """One layer with its followers, and the activations it was given in one forward pass."""

    layer: str
    """Name of the convolution or linear layer."""
    modules: tuple[nn.Module, ...]
    """The layer, then its norm and activation, in the order of calls."""
    inputs: tuple[Tensor, ...]
    """What the layer was given, one entry for each call."""

    @property
    def tied(self) -> bool:
        """Whether input and output have one width: depthwise convolutions, and attention between its layers."""
        return is_depthwise(self.modules[0]) or isinstance(self.modules[0], AttentionCore)

    def run(self) -> None:
        """Do once what the unit does in one forward pass."""
        for activation in self.inputs:
            for module in self.modules:
                activation = module(activation)


def record_units(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> tuple[Unit, ...]:
    """Return the units of a model with recorded activations, in the order in which they run.

    Args:
        model: Run once in eval mode; not changed.
        example_inputs: One batch.
    """
    calls: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def record(name: str, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            calls.append((name, module, inputs[0], output))

    handles = [
        module.register_forward_hook(lambda item, inputs, output, name=name: record(name, item, inputs, output))
        for name, module in model.named_modules()
        if is_layer(module) or isinstance(module, (*_BATCH_NORMS, *_ACTIVATIONS, *_POOLS))
    ]
    try:
        with evaluating(model), torch.no_grad():
            model(*example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    followers: dict[str, tuple[nn.Module, ...]] = {}
    inputs: dict[str, list[Tensor]] = {}
    for position, (name, module, given, output) in enumerate(calls):
        if is_layer(module):
            followers.setdefault(name, (module, *_followers(calls[position + 1 :], output)))
            inputs.setdefault(name, []).append(given.detach())
    cores = {attention.output: attention for attention in find_attention(model)}
    units = []
    for name in followers:
        if name in cores and inputs[name][0].dim() == 3:
            units.append(_core(cores[name], inputs[name]))
        units.append(Unit(name, followers[name], tuple(inputs[name])))
    return tuple(units)


def _core(attention: Attention, inputs: Sequence[Tensor]) -> Unit:
    core = AttentionCore(attention.head_size, attention.queries_each, attention.output)
    return Unit(f"{attention.owner}.attention", (core,), tuple(inputs))


def resized(unit: Unit, *, in_channels: int, out_channels: int) -> Unit:
    """Return the unit as it would be at other widths, with random weights and activations.

    Args:
        unit: As recorded.
        in_channels: Of the layer; features for a linear layer.
        out_channels: The same; equal to `in_channels` for a depthwise convolution.
    """
    layer = unit.modules[0]
    like = unit.inputs[0]
    modules = [_resized_layer(layer, in_channels, out_channels)]
    for follower in unit.modules[1:]:
        if isinstance(follower, _BATCH_NORMS):
            modules.append(type(follower)(out_channels, affine=follower.affine))
        elif isinstance(follower, nn.PReLU) and follower.num_parameters > 1:
            modules.append(nn.PReLU(out_channels))
        else:
            modules.append(follower)
    activations = []
    for given in unit.inputs:
        shape = list(given.shape)
        shape[1 if isinstance(layer, CONVOLUTIONS) else -1] = in_channels
        # Drawn where it is used: on a CPU a GPU's batch takes longer to draw than to time.
        activation = torch.randn(shape, generator=torch.Generator(like.device).manual_seed(0), device=like.device).to(
            like.dtype
        )
        if is_channels_last(given):
            activation = activation.contiguous(memory_format=torch.channels_last)
        activations.append(activation)
    return Unit(unit.layer, tuple(module.to(like).eval() for module in modules), tuple(activations))


def signature(unit: Unit) -> str:
    """Return what decides a unit's cost besides its widths and the machine: units with equal ones share a table."""
    layer, like = unit.modules[0], unit.inputs[0]
    spatial = tuple(
        tuple(given.shape[:1] + given.shape[2:]) if isinstance(layer, CONVOLUTIONS) else tuple(given.shape[:-1])
        for given in unit.inputs
    )
    geometry: tuple[object, ...] = ()
    if isinstance(layer, CONVOLUTIONS):
        groups = "depthwise" if is_depthwise(layer) else layer.groups
        geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, groups)
    chain = "+".join(repr(item) if isinstance(item, _POOLS) else type(item).__name__ for item in unit.modules)
    if isinstance(layer, AttentionCore):
        geometry = (layer.head_size, layer.queries_each)
    bias = "bias" if getattr(layer, "bias", None) is not None else "no bias"
    order = "channels last" if is_channels_last(like) else "contiguous"
    return f"{chain} {bias} {geometry} on {spatial} {str(like.dtype).removeprefix('torch.')} {order}"


def size_bytes(unit: Unit) -> int:
    """Return the memory of a unit's weights and of the activations it is given."""
    tensors = [*unit.inputs, *(parameter for module in unit.modules for parameter in module.parameters())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def is_channels_last(tensor: Tensor) -> bool:
    """Return whether an image's channels lie next to each other in memory."""
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def channels(unit: Unit) -> tuple[int, int]:
    """Return a unit's input and output widths."""
    layer = unit.modules[0]
    if isinstance(layer, AttentionCore):
        width = int(unit.inputs[0].shape[-1])
        return width, width
    return layer_widths(layer)


def alignment(layer: nn.Module, multiple: int) -> int:
    """Return what a layer's widths must be a multiple of."""
    if isinstance(layer, AttentionCore):
        return layer.head_size * layer.queries_each
    if isinstance(layer, CONVOLUTIONS) and not is_depthwise(layer):
        return math.lcm(multiple, layer.groups)
    return multiple


def _followers(calls: Sequence[tuple[str, nn.Module, Tensor, Tensor]], output: Tensor) -> list[nn.Module]:
    found: list[nn.Module] = []
    for _, module, given, following in calls:
        # The next call belongs to the unit only if it takes the very tensor the unit gave.
        if given is not output or is_layer(module):
            break
        found.append(module)
        output = following
    return found


def _resized_layer(layer: nn.Module, in_channels: int, out_channels: int) -> nn.Module:
    if isinstance(layer, AttentionCore):
        return AttentionCore(layer.head_size, layer.queries_each, layer.output)
    if not isinstance(layer, CONVOLUTIONS):
        return nn.Linear(in_channels, out_channels, bias=layer.bias is not None)
    return type(layer)(
        in_channels,
        out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        groups=in_channels if is_depthwise(layer) else layer.groups,
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )
