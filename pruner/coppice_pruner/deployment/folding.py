"""Folding: batch norms become part of the layer before them, which costs nothing then."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from coppice_pruner.surgery import CONVOLUTIONS, Constant, evaluating

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def folded(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> nn.Module:
    """Return a copy in eval mode, batch norms folded into the convolution, linear layer or constant before them.

    A norm is folded where it takes the very tensor that the layer gave, both run once in a forward pass, and nobody
    else reads that tensor.

    Args:
        model: Not changed.
        example_inputs: One batch, shapes (N, ...).

    Returns:
        A model with the same outputs up to rounding.
    """
    result = copy.deepcopy(model).eval()
    for layer_name, norm_name in _pairs(result, example_inputs):
        layer, norm = result.get_submodule(layer_name), result.get_submodule(norm_name)
        assert isinstance(norm, _BATCH_NORMS)
        if isinstance(layer, Constant):
            _fold_constant(layer, norm)
        elif isinstance(layer, nn.Linear):
            result.set_submodule(layer_name, fuse_linear_bn_eval(layer, norm))
        else:
            assert isinstance(layer, CONVOLUTIONS)
            result.set_submodule(layer_name, fuse_conv_bn_eval(layer, norm))
        result.set_submodule(norm_name, nn.Identity())
    return result


def _fold_constant(constant: Constant, norm: nn.Module) -> None:
    shape = (1, -1, *(1 for _ in range(constant.spatial)))
    with torch.no_grad():
        constant.bias.copy_(norm(constant.bias.view(shape)).flatten())


def _pairs(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> list[tuple[str, str]]:
    calls: list[tuple[str, Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda _module, inputs, output, name=name: calls.append((name, inputs[0], output)))
        for name, module in model.named_modules()
        if isinstance(module, (*CONVOLUTIONS, nn.Linear, Constant, *_BATCH_NORMS))
    ]
    try:
        with evaluating(model), torch.no_grad():
            model(*example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _, _ in calls]
    pairs = []
    for name, _, output in calls:
        followers = [other for other, given, _ in calls if given is output]
        if (
            len(followers) == 1
            and not isinstance(model.get_submodule(name), _BATCH_NORMS)
            and isinstance(model.get_submodule(followers[0]), _BATCH_NORMS)
            and names.count(name) == names.count(followers[0]) == 1
            and getattr(model.get_submodule(followers[0]), "track_running_stats", False)
        ):
            pairs.append((name, followers[0]))
    return pairs
