"""The layers that surgery knows, each seen as a weight of shape (outputs, inputs, ...)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def is_transposed_linear(module: nn.Module) -> bool:
    """Return whether a module is the linear layer of GPT-2 (transformers' Conv1D), which keeps its weight as (I, O)."""
    # By its shape rather than its class: transformers is an extra that need not be installed.
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and isinstance(module.weight, Tensor)


def is_linear(module: nn.Module) -> bool:
    """Return whether a module multiplies its last dimension by a matrix."""
    return isinstance(module, nn.Linear) or is_transposed_linear(module)


def is_layer(module: nn.Module) -> bool:
    """Return whether a module is a convolution or a linear layer."""
    return isinstance(module, CONVOLUTIONS) or is_linear(module)


def is_depthwise(module: nn.Module) -> bool:
    """Return whether every output channel of a convolution reads just its own input channel."""
    return (
        isinstance(module, CONVOLUTIONS)
        and module.groups > 1
        and module.groups == module.in_channels == module.out_channels
    )


def weight_OI(module: nn.Module) -> Tensor:
    """Return a view of a layer's weight, shape (outputs, inputs / groups, ...): writing to it changes the layer."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.t() if is_transposed_linear(module) else weight


def layer_widths(module: nn.Module) -> tuple[int, int]:
    """Return a layer's input and output channels."""
    if isinstance(module, CONVOLUTIONS):
        return module.in_channels, module.out_channels
    outputs, inputs = weight_OI(module).shape
    return inputs, outputs


def channel_dimension(module: nn.Module) -> int:
    """Return where a layer's inputs and outputs have their channels."""
    return 1 if isinstance(module, CONVOLUTIONS) else -1


def cut_transposed_linear(module: nn.Module, indices: Sequence[int], *, outputs: bool) -> None:
    """Remove, in place, some output or input channels of GPT-2's linear layer."""
    weight_IO, bias_O = module.weight, module.bias
    assert isinstance(weight_IO, Tensor)
    dimension = 1 if outputs else 0
    left = _left(weight_IO.shape[dimension], indices, weight_IO.device)
    module.weight = nn.Parameter(weight_IO.detach().index_select(dimension, left))
    if outputs:
        assert isinstance(bias_O, Tensor)
        module.bias = nn.Parameter(bias_O.detach().index_select(0, left))
    module.nx, module.nf = (int(size) for size in module.weight.shape)  # type: ignore[assignment]


def cut_parameter(module: nn.Module, name: str, dimension: int, indices: Sequence[int]) -> None:
    """Remove, in place, some slices of a module's parameter."""
    parameter = getattr(module, name)
    left = _left(parameter.shape[dimension], indices, parameter.device)
    setattr(module, name, nn.Parameter(parameter.detach().index_select(dimension, left), parameter.requires_grad))


def _left(size: int, gone: Sequence[int], device: torch.device) -> Tensor:
    removed = set(gone)
    return torch.tensor([index for index in range(size) if index not in removed], dtype=torch.long, device=device)
