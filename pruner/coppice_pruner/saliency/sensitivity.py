"""How far a model's answers move when channels are masked, measured: what puts width and depth on one scale."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from coppice_pruner.surgery import ChannelGroup, Moments, evaluating, input_channels, input_moments, mask, refit

_BATCH_SIZE = 64
"""Activations of more samples at once do not fit the caches of a CPU."""


class Divergences:
    """How far a model's answers move when some channels are masked and the others take over what they can.

    Without refitting, a group of channels that repeat each other would look as dear as one in which each is needed.
    What the model answers and what its layers read is computed once.

    Args:
        model: Used in eval mode and left as it was; not to be changed while this is asked.
        groups: Of this model.
        inputs: Samples, shapes (N, ...); a few hundred tell branches apart.
        logits: Whether outputs are logits of shape (N, ..., classes).
    """

    def __init__(
        self, model: nn.Module, groups: Sequence[ChannelGroup], inputs: tuple[Tensor, ...], *, logits: bool = True
    ) -> None:
        self._model, self._inputs = model, inputs
        self._groups = {group.name: group for group in groups}
        self._distance = _divergence if logits else _squared_difference
        self._scaled = _log_probabilities if logits else Tensor.float

    def of(self, cuts: Sequence[Mapping[str, Sequence[int]]]) -> tuple[float, ...]:
        """Return for each cut how far the answers move, zero or more; one forward pass each.

        For logits the Kullback-Leibler divergence in nats per answer, for other outputs the mean squared difference
        over their variance.

        Args:
            cuts: For each group that loses some channels, which.
        """
        result = []
        with torch.no_grad(), evaluating(self._model):
            clean, moments = self._clean, self._moments
            for cut in cuts:
                with _masked(self._model, [(self._groups[name], gone) for name, gone in cut.items()], moments):
                    result.append(max(0.0, float(self._distance(clean, self._answers()))))
        return tuple(result)

    @functools.cached_property
    def _clean(self) -> Tensor:
        return self._answers()

    @functools.cached_property
    def _moments(self) -> Mapping[str, Moments]:
        readers = {name for group in self._groups.values() for name in group.consumers}
        return input_moments(self._model, readers, self._inputs)

    def _answers(self) -> Tensor:
        batches = zip(*(item.split(_BATCH_SIZE) for item in self._inputs), strict=True)
        return torch.cat([self._scaled(self._model(*batch)) for batch in batches])


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


def _log_probabilities(logits: Tensor) -> Tensor:
    return functional.log_softmax(logits.float().flatten(0, -2), dim=-1)


def _squared_difference(clean: Tensor, other: Tensor) -> Tensor:
    return torch.nan_to_num((clean - other).square().mean() / clean.var().clamp_min(1e-12), nan=1e9, posinf=1e9)


def _divergence(clean: Tensor, other: Tensor) -> Tensor:
    divergence = functional.kl_div(other, clean, reduction="batchmean", log_target=True)
    return torch.nan_to_num(divergence, nan=1e9, posinf=1e9)
