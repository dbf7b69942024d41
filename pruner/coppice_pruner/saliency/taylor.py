"""First-order Taylor saliency, taken where channels are read.

For a module that reads channel c, the sum over its weights of `weight * gradient` for that channel is the first-order
change of the loss when the channel is masked there: exactly the mask of the surgery's invariant. So the score needs no
rule for batch norm (where `weight * gradient` of the convolution before it sums to nearly nothing), activations or
residual connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.surgery import ChannelGroup, Side, coupled_sum, evaluating, is_transposed_linear


def taylor_scores(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    batches: Iterable[tuple[tuple[Tensor, ...], Tensor]],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Score each channel of each group by its first-order effect on the loss.

    Args:
        model: The model; used in eval mode, and neither its parameters, gradients nor modes are changed.
        groups: Of this model.
        batches: Inputs and what `loss_fn` wants beside the outputs, such as labels. Several small batches tell more
            than one large one, whose gradients cancel.
        loss_fn: Mean loss of a batch from the model's outputs and the second item.

    Returns:
        For each group, the root mean square over batches of the change, shape (width,), float32, zero or more; larger
        means keep. Squares of scores add up.

    Raises:
        InputRefusedError: If there is no batch, or a score is not finite.

    Source: Molchanov et al. 2019, first-order Taylor criterion on a gate, arXiv:1906.10771.
    """
    readers = {name: _weight(model, name) for group in groups for name in group.consumers}
    squares = {group.name: torch.zeros(group.width) for group in groups}
    required = {name: weight.requires_grad for name, weight in readers.items()}
    count = 0
    try:
        for weight in readers.values():
            weight.requires_grad_(True)
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            for inputs, targets in batches:
                loss = loss_fn(model(*inputs), targets)
                gradients = torch.autograd.grad(loss, list(readers.values()))
                changes = {
                    name: _per_input_channel(model, name, weight, gradient)
                    for (name, weight), gradient in zip(readers.items(), gradients, strict=True)
                }
                for group in groups:
                    squares[group.name] += _group_change(group, changes).square()
                count += 1
    finally:
        for name, weight in readers.items():
            weight.requires_grad_(required[name])
    if not count:
        raise InputRefusedError("Taylor saliency: there is no batch to take gradients from")
    scores = {name: (total / count).sqrt() for name, total in squares.items()}
    for name, values in scores.items():
        if not bool(values.isfinite().all()):
            raise InputRefusedError(f"Taylor saliency: group {name} has scores that are not finite; check the inputs")
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
