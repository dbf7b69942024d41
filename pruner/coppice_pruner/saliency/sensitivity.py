"""How far a model's answers move when channels are masked, measured: what puts width and depth on one scale."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from coppice_pruner.surgery import ChannelGroup, Moments, evaluating, input_channels, input_moments, mask, refit


def divergences(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    cuts: Sequence[Mapping[str, Sequence[int]]],
    inputs: tuple[Tensor, ...],
    *,
    logits: bool = True,
) -> tuple[float, ...]:
    """Return how far a model's answers move when some channels are masked and the others take over what they can.

    Without refitting, a group of channels that repeat each other would look as dear as one in which each is needed.

    Args:
        model: Used in eval mode and left as it was.
        groups: Of this model.
        cuts: What to ask about: for each group that loses some channels, which.
        inputs: Samples, shapes (N, ...); a few hundred tell branches apart.
        logits: Whether outputs are logits of shape (N, ..., classes).

    Returns:
        For each cut, zero or more; one forward pass each. For logits the Kullback-Leibler divergence in nats per
        answer, for other outputs the mean squared difference over their variance.
    """
    distance = _divergence if logits else _squared_difference
    answers = _log_probabilities if logits else _numbers
    by_name = {group.name: group for group in groups}
    with torch.no_grad(), evaluating(model):
        clean = answers(model, inputs)
        moments = input_moments(model, {name for group in groups for name in group.consumers}, inputs)
        result = []
        for cut in cuts:
            with _masked(model, [(by_name[name], channels) for name, channels in cut.items()], moments):
                result.append(max(0.0, float(distance(clean, answers(model, inputs)))))
    return tuple(result)


@contextlib.contextmanager
def _masked(
    model: nn.Module, removals: Sequence[tuple[ChannelGroup, Sequence[int]]], moments: Mapping[str, Moments]
) -> Iterator[None]:
    readers = {name: model.get_submodule(name) for group, _ in removals for name in group.consumers}
    tensors = [item for reader in readers.values() for item in reader.parameters(recurse=False)]
    before = [item.detach().clone() for item in tensors]
    try:
        for name, gone in input_channels(removals).items():
            refit(readers[name], moments[name], gone)
        for group, channels in removals:
            mask(model, group, channels)
        yield
    finally:
        for item, value in zip(tensors, before, strict=True):
            item.copy_(value)


def _log_probabilities(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    logits = model(*inputs)
    return functional.log_softmax(logits.float().flatten(0, -2), dim=-1)


def _numbers(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    outputs: Tensor = model(*inputs)
    return outputs.float()


def _squared_difference(clean: Tensor, other: Tensor) -> Tensor:
    return torch.nan_to_num((clean - other).square().mean() / clean.var().clamp_min(1e-12), nan=1e9, posinf=1e9)


def _divergence(clean: Tensor, other: Tensor) -> Tensor:
    divergence = functional.kl_div(other, clean, reduction="batchmean", log_target=True)
    return torch.nan_to_num(divergence, nan=1e9, posinf=1e9)
