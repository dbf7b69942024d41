"""Gradients of gates: how a loss changes with each channel, taken where channels are read.

For a module that reads channel c, the sum over its weights of `weight * gradient` for that channel is the derivative of
the loss by a factor on the channel there: exactly the mask of the surgery's invariant. So no score made of it needs a
rule for batch norm (where `weight * gradient` of the convolution before it sums to nearly nothing), activations or
residual connections. `taylor` and `hessian` differ only in the loss they ask about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.surgery import ChannelGroup, Side, coupled_sum, evaluating, is_transposed_linear

Batch = tuple[tuple[Tensor, ...], Tensor]
"""Inputs, and what the loss wants beside the outputs."""


def gate_root_mean_squares(
    name: str,
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    batches: Iterable[Batch],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Return the root mean square over batches of the loss's derivative by each channel's gate.

    Args:
        name: Of the saliency, for messages.
        model: Used in eval mode, and neither its parameters, gradients nor modes are changed.
        groups: Of this model.
        batches: At least one.
        loss_fn: A scalar from the model's outputs and the batch's second item.

    Returns:
        For each group, shape (width,), float32, zero or more. Squares add up.

    Raises:
        InputRefusedError: If there is no batch, or a score is not finite.
    """
    readers = {reader: _weight(model, reader) for group in groups for reader in group.consumers}
    squares = {group.name: torch.zeros(group.width) for group in groups}
    required = {reader: weight.requires_grad for reader, weight in readers.items()}
    count = 0
    try:
        for weight in readers.values():
            weight.requires_grad_(True)
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            for inputs, targets in batches:
                loss = loss_fn(model(*inputs), targets)
                gradients = torch.autograd.grad(loss, list(readers.values()))
                changes = {
                    reader: _per_input_channel(model, reader, weight, gradient)
                    for (reader, weight), gradient in zip(readers.items(), gradients, strict=True)
                }
                for group in groups:
                    squares[group.name] += _group_change(group, changes).square()
                count += 1
    finally:
        for reader, weight in readers.items():
            weight.requires_grad_(required[reader])
    if not count:
        raise InputRefusedError(f"{name} saliency: there is no batch to take gradients from")
    scores = {group: (total / count).sqrt() for group, total in squares.items()}
    for scored, values in scores.items():
        if not bool(values.isfinite().all()):
            raise InputRefusedError(f"{name} saliency: group {scored} has scores that are not finite; check the inputs")
    return scores


def _group_change(group: ChannelGroup, changes: dict[str, Tensor]) -> Tensor:
    change = torch.zeros(group.width)
    for coupling in group.couplings:
        if coupling.side is Side.INPUT:
            change += coupled_sum(coupling, changes[coupling.module])
    return change


def _per_input_channel(model: nn.Module, name: str, weight: Tensor, gradient: Tensor) -> Tensor:
    groups = int(getattr(model.get_submodule(name), "groups", 1))
    product = weight.detach() * gradient
    if is_transposed_linear(model.get_submodule(name)):
        product = product.t()
    product = product.reshape(groups, product.shape[0] // groups, product.shape[1], -1)
    return product.sum(dim=(1, 3)).flatten()


def _weight(model: nn.Module, name: str) -> Tensor:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight
