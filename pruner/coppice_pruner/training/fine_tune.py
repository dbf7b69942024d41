"""The brief fine-tuning after a pruning step (Algorithm 1, line 12), and the training of the demo's dense model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from coppice_api.prunejob import FineTune, Optimizer
from coppice_pruner.data import Splits
from coppice_pruner.errors import PrunerError

_DISTILLATION_TEMPERATURE = 2.0
_DISTILLATION_SHARE = 0.5


class DivergedError(PrunerError):
    """The loss is not a finite number any more; the step must be rolled back."""


def fine_tune(
    model: nn.Module,
    data: Splits,
    settings: FineTune,
    *,
    seed: int,
    teacher: nn.Module | None = None,
    on_epoch: Callable[[int, float], None] = lambda _epoch, _loss: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train a model in place, towards the labels and, with a teacher, towards its outputs too.

    The order of the samples comes from `seed` alone, so a resumed run repeats what the interrupted one did.

    Args:
        model: Left in eval mode.
        data: The training split is used.
        settings: Optimizer, rates and epochs of the spec.
        seed: Of the shuffling.
        teacher: The dense model; None trains on labels only.
        on_epoch: Told the epoch, counted from 1, and its mean loss.
        should_stop: Asked before every batch.

    Raises:
        DivergedError: If the loss becomes NaN or infinite.

    Source: Hinton et al. 2015, distillation with temperature, arXiv:1503.02531.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = _optimizer(model, settings)
    steps = settings.epochs * -(-len(data.train_labels) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps))
    for epoch in range(1, settings.epochs + 1):
        model.train()
        total = 0.0
        order = torch.randperm(len(data.train_labels), generator=generator)
        for chosen in order.split(settings.batch_size):
            if should_stop():
                model.eval()
                return
            loss = _loss(model, data.train_images[chosen], data.train_labels[chosen], teacher)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        mean = total / len(order)
        if not torch.isfinite(torch.tensor(mean)):
            model.eval()
            raise DivergedError(f"fine-tuning diverged in epoch {epoch}: lower algorithm.fineTune.learningRate")
        on_epoch(epoch, mean)
    if settings.epochs:
        recalibrate_batch_norm(model, data, settings.batch_size)
    model.eval()


def recalibrate_batch_norm(model: nn.Module, data: Splits, batch_size: int) -> None:
    """Replace the running statistics of batch norms by those of the training split, in place.

    Running averages trail the weights by tens of batches, which is all that a brief fine-tuning has: on the digits one
    epoch left 98.7 % with trailing statistics and 99.3 % with these.

    Args:
        model: Left in eval mode.
        data: The training split is used.
        batch_size: Samples a batch.

    Source: Wu and Johnson 2021, precise BatchNorm, arXiv:2105.07576.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        model.train()
        with torch.no_grad():
            for images in data.train_images.split(batch_size):
                # A single sample has no variance.
                if len(images) > 1:
                    model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.eval()


def _loss(model: nn.Module, images: Tensor, labels: Tensor, teacher: nn.Module | None) -> Tensor:
    logits = model(images)
    loss = functional.cross_entropy(logits, labels)
    if teacher is None:
        return loss
    with torch.no_grad():
        wanted = teacher(images)
    temperature = _DISTILLATION_TEMPERATURE
    soft = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=1),
        functional.log_softmax(wanted / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    # The square keeps the two gradients of one size (section 2 of the source).
    return (1 - _DISTILLATION_SHARE) * loss + _DISTILLATION_SHARE * temperature**2 * soft


def _optimizer(model: nn.Module, settings: FineTune) -> torch.optim.Optimizer:
    rate, decay = float(settings.learning_rate), float(settings.weight_decay)
    if settings.optimizer is Optimizer.SGD:
        return torch.optim.SGD(model.parameters(), lr=rate, weight_decay=decay, momentum=0.9)
    kind = torch.optim.AdamW if settings.optimizer is Optimizer.ADAMW else torch.optim.Adam
    return kind(model.parameters(), lr=rate, weight_decay=decay)
