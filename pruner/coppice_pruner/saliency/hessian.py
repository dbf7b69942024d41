"""Second-order saliency: the diagonal of the Hessian by the channels' gates.

At the end of training the first-order change of the loss is nearly nothing and says little; what masking a channel
costs is then half the curvature, `1/2 d2L/dg2`. The Gauss-Newton diagonal is estimated without a second derivative:
with targets drawn from the model's own answers, the mean square of the loss's derivative, times the number of answers
in the batch, is that diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from coppice_pruner.saliency.gates import gate_root_mean_squares
from coppice_pruner.surgery import ChannelGroup


def hessian_scores(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    batches: Iterable[tuple[Tensor, ...]],
    *,
    seed: int,
    logits: bool = True,
) -> dict[str, Tensor]:
    """Score each channel of each group by its second-order effect on the loss.

    Args:
        model: The model; used in eval mode and not changed.
        groups: Of this model.
        batches: Inputs; no labels are needed.
        seed: Of the answers that are drawn.
        logits: Whether outputs are logits of shape (N, ..., classes), for which the loss is the cross entropy;
            otherwise numbers, for which it is half the squared error.

    Returns:
        For each group, the root of half the diagonal entry, shape (width,), float32, zero or more; larger means keep.
        Squares of scores add up.

    Raises:
        InputRefusedError: If there is no batch, or a score is not finite.

    Source: LeCun et al. 1989, Optimal Brain Damage; Gauss-Newton-Bartlett estimator of Liu et al. 2023, section 2.3,
    arXiv:2305.14342.
    """
    generator = torch.Generator().manual_seed(seed)
    loss = _drawn_class if logits else _drawn_number
    # The derivative of sqrt(n / 2) times a mean of n terms, squared, is n / 2 times that of the mean.
    return gate_root_mean_squares(
        "Hessian", model, groups, ((inputs, torch.empty(0)) for inputs in batches),
        lambda outputs, _: loss(outputs, generator),
    )  # fmt: skip


def _drawn_class(outputs: Tensor, generator: torch.Generator) -> Tensor:
    logits_AC = outputs.float().flatten(0, -2)
    chances = logits_AC.detach().softmax(dim=-1).cpu()
    drawn = torch.multinomial(chances, 1, generator=generator).flatten().to(outputs.device)
    return math.sqrt(len(drawn) / 2) * functional.cross_entropy(logits_AC, drawn)


def _drawn_number(outputs: Tensor, generator: torch.Generator) -> Tensor:
    numbers_AK = outputs.float().reshape(len(outputs), -1)
    noise = torch.randn(numbers_AK.shape, generator=generator).to(outputs.device)
    return math.sqrt(len(noise) / 2) * (numbers_AK * noise).sum(dim=1).mean()
