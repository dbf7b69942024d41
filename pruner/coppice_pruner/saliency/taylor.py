"""First-order Taylor saliency: how the loss would change, to first order, if a channel were masked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from coppice_pruner.saliency.gates import Batch, gate_root_mean_squares
from coppice_pruner.surgery import ChannelGroup


def taylor_scores(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    batches: Iterable[Batch],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Score each channel of each group by its first-order effect on the loss.

    Args:
        model: The model; used in eval mode and not changed.
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
    return gate_root_mean_squares("Taylor", model, groups, batches, loss_fn)
