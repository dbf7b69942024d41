"""What an allocation is told: scores of every channel, and what moves the answers most."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from coppice_api.prunejob import Saliency
from coppice_pruner.allocation import AllocationContext, Allocator, GroupState, Kept, Widths
from coppice_pruner.data import Samples, Splits
from coppice_pruner.profiling import CostModel
from coppice_pruner.saliency import Divergences, hessian_scores, l2_scores, taylor_scores
from coppice_pruner.surgery import ChannelGroup
from coppice_pruner.training import trained_layout

_BATCHES, _BATCH_SIZE = 8, 64
_SENSITIVITY_SAMPLES = 256
_SENSITIVITY_PRIOR = 0.25
_Cut = Mapping[str, Sequence[int]]
"""For each group that loses some channels, which."""
_Moves = Callable[[Sequence[_Cut]], Sequence[float]]


def allocation_context(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    cost_model: CostModel,
    data: Splits,
    allocator: Allocator,
    *,
    seed: int,
    multiple: int,
    min_width: int,
    dropped: frozenset[str],
    max_seconds: float | None = None,
    refused: Sequence[Widths] = (),
) -> AllocationContext:
    """Return the model as an allocation sees it.

    Args:
        model: As pruned so far.
        groups: Of this model.
        cost_model: Predicts its energy.
        data: Samples of its training split are scored on.
        allocator: Says what it wants to know.
        seed: Chooses the samples.
        multiple: Widths become multiples of this.
        min_width: No group becomes narrower than this, unless it is dropped.
        dropped: Groups of the dense model that are gone.
        max_seconds: What a batch may take in the end; None for no limit.
        refused: Networks that were made of this model and taken back.
    """
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    samples = data.train.take(order[: _BATCHES * _BATCH_SIZE])
    match allocator.saliency:
        case Saliency.L2:
            scores = l2_scores(model, groups)
        case Saliency.HESSIAN:
            inputs = [batch.inputs for batch in samples.batches(_BATCH_SIZE)]
            scores = hessian_scores(model, groups, inputs, seed=seed, logits=data.task.logits)
        case _:
            with trained_layout(model) as laid_out:
                batches = [(batch.inputs, batch.targets) for batch in laid_out(samples).batches(_BATCH_SIZE)]
                scores = taylor_scores(model, groups, batches, data.task.loss)
    states = tuple(
        GroupState(
            group.name, tuple(scores[group.name].tolist()), cost_model.built_widths[group.name], group.atoms,
            aligned=group.attention is None,
        )
        for group in groups
    )  # fmt: skip
    moves = _moves(model, groups, samples.take(slice(_SENSITIVITY_SAMPLES)), logits=data.task.logits)
    if allocator.compares_groups:
        states = _with_sensitivity(groups, states, moves)
    return AllocationContext(
        states,
        cost_model,
        multiple=multiple,
        min_width=min_width,
        dropped=dropped,
        max_seconds=max_seconds,
        refused=tuple(refused),
        moved=lambda networks: moves([_cut(groups, kept) for kept in networks]),
    )


def _moves(model: nn.Module, groups: Sequence[ChannelGroup], samples: Samples, *, logits: bool) -> _Moves:
    """Return what says of several cuts how far each moves the answers to some samples, before any fine-tuning."""
    divergences = Divergences(model, groups, samples.inputs, logits=logits)

    def moves(cuts: Sequence[_Cut]) -> Sequence[float]:
        with trained_layout(model):
            return divergences.of(cuts)

    return moves


def _with_sensitivity(
    groups: Sequence[ChannelGroup], states: Sequence[GroupState], moves: _Moves
) -> tuple[GroupState, ...]:
    """Return the states with how much each group moves the answers, and what dropping it costs on the same scale.

    The weaker half of every group, and all of every branch, are masked in turn and the change of the answers is
    measured. A group's half over what `GroupState.losses` says of it is its sensitivity, relative to the mean of all.
    It says what a cut does at once; fine-tuning mends most of that and then misses channels that seemed not to matter,
    so it is drawn towards the mean.
    """
    strong = {state.name: state.strongest(len(state.atoms[0]) * (len(state.atoms) // 2)) for state in states}
    halves = {state.name: _without(state.width, strong[state.name]) for state in states if strong[state.name]}
    wholes = {group.name: range(group.width) for group in groups if group.droppable}
    cuts: list[_Cut] = [{name: gone} for cut in (halves, wholes) for name, gone in cut.items()]
    moved = moves(cuts)
    halved = dict(zip(halves, moved[: len(halves)], strict=True))
    dropped = dict(zip(wholes, moved[len(halves) :], strict=True))
    rates = {
        state.name: halved[state.name] / state.losses((len(strong[state.name]),))[0]
        for state in states
        if state.name in halved
    }
    unit = max(statistics.fmean(rates.values()) if rates else 1.0, 1e-9)
    return tuple(
        dataclasses.replace(
            state,
            sensitivity=_believed(rates[state.name] / unit) if state.name in rates else 1.0,
            drop_loss=dropped[state.name] / unit if state.name in dropped else None,
        )
        for state in states
    )


def _cut(groups: Sequence[ChannelGroup], kept: Kept) -> _Cut:
    return {group.name: _without(group.width, kept[group.name]) for group in groups if group.name in kept}


def _without(width: int, channels: Sequence[int]) -> list[int]:
    stays = set(channels)
    return [index for index in range(width) if index not in stays]


def _believed(sensitivity: float) -> float:
    return (1 - _SENSITIVITY_PRIOR) * sensitivity + _SENSITIVITY_PRIOR
