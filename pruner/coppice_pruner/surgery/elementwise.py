"""Channels that pass from one linear layer to another one by one, found by trying.

Some channels of a layer's output are changed, each in a sample of its own; a layer whose input then differs in just
that channel reads it through nothing but elementwise operations. Two layers whose channels meet there (a gate and what
it gates) belong together. This needs no graph of the forward pass, so it works where tracing does not: caches, windows,
masks and control flow do not matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coppice_pruner.surgery.branch import tensors
from coppice_pruner.surgery.layers import is_layer, is_linear, layer_widths

_TRIED = 3
"""Channels tried of each layer, in a sample each. The invariant catches a layer whose channels behave differently."""


@dataclass(frozen=True)
class Passage:
    """Channels that some layers give and others read, one to one."""

    producers: tuple[str, ...]
    readers: tuple[str, ...]
    width: int


def find_passages(
    model: nn.Module, example_inputs: tuple[Tensor, ...], *, without: Collection[str]
) -> tuple[Passage, ...]:
    """Return the passages between linear layers, in the order of the model's definition.

    Args:
        model: In eval mode; not changed.
        example_inputs: Of any batch size; values matter where they steer the forward pass (tokens).
        without: Modules that are part of something else, such as attention.
    """
    names = [name for name, module in model.named_modules() if is_linear(module) and name not in without]
    sample = tuple(item[:1].expand(_TRIED, *item.shape[1:]).contiguous() for item in example_inputs)
    clean = _inputs_of_layers(model, sample, {}, {})
    by_readers: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        readers = _readers(model, sample, name, clean)
        if readers:
            by_readers.setdefault(readers, []).append(name)
    return tuple(
        Passage(tuple(producers), readers, layer_widths(model.get_submodule(producers[0]))[1])
        for readers, producers in by_readers.items()
    )


Recorded = dict[str, list[Tensor]]


def _readers(model: nn.Module, sample: tuple[Tensor, ...], name: str, clean: Recorded) -> tuple[str, ...]:
    width = layer_widths(model.get_submodule(name))[1]
    if width < _TRIED or len(clean.get(name, ())) != 1:
        return ()
    generator = torch.Generator().manual_seed(0)
    channels = torch.randperm(width, generator=generator)[:_TRIED]

    def disturb(output: Tensor) -> Tensor:
        changed = output.clone()
        if output.shape[0] % _TRIED:
            return changed
        each = output.shape[0] // _TRIED
        for place, channel in enumerate(channels.tolist()):
            rows = changed[place * each : (place + 1) * each]
            rows[..., channel] += 1.0 + rows[..., channel].abs()
        return changed

    readers: list[str] = []

    def mixed(other: str, given: Tensor) -> bool:
        """Note a reader; return whether channels have met here, behind which none is looked for."""
        before = clean[other]
        if len(before) == 1 and before[0].shape == given.shape and torch.equal(before[0], given):
            return False
        if not _reads_one_to_one(before, given, channels, model, other, width):
            return True
        readers.append(other)
        return False

    _inputs_of_layers(model, sample, {name: disturb}, {}, until=mixed)
    if not readers:
        return ()
    # With the readers given what they read before, nothing else may have changed: nor where nobody looked.
    held = {reader: clean[reader][0] for reader in readers}
    rest = _inputs_of_layers(model, sample, {name: disturb}, held)
    for other, values in rest.items():
        if other not in readers and any(
            not torch.equal(one, two) for one, two in zip(clean[other], values, strict=True)
        ):
            return ()
    return tuple(readers)


def _reads_one_to_one(
    clean: list[Tensor], disturbed: Tensor, channels: Tensor, model: nn.Module, reader: str, width: int
) -> bool:
    module = model.get_submodule(reader)
    if len(clean) != 1 or not is_linear(module) or layer_widths(module)[0] != width:
        return False
    if clean[0].shape != disturbed.shape or clean[0].shape[0] % _TRIED:
        return False
    # Shape (tried, channels): whether a channel differs in the sample in which one was changed.
    differs = (clean[0] != disturbed).reshape(_TRIED, -1, width).any(dim=1)
    # An activation may swallow a change (a ReLU below zero); what arrives must arrive in its own channel.
    own = torch.zeros_like(differs)
    own[torch.arange(_TRIED, device=own.device), channels.to(own.device)] = True
    return bool(differs.any()) and not bool((differs & ~own).any())


class _EnoughError(Exception):
    """Ends a forward pass of which the rest is of no interest."""


def _inputs_of_layers(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    changed: dict[str, Callable[[Tensor], Tensor]],
    held: dict[str, Tensor],
    until: Callable[[str, Tensor], bool] = lambda _name, _given: False,
) -> Recorded:
    """Return what every layer was given, and under "" what the model gave; some outputs changed, some inputs held.

    The pass ends at the first layer for whose name and input `until` holds.
    """
    given: Recorded = {}
    handles = []
    for name, module in model.named_modules():
        if not is_layer(module):
            continue

        def before(_module: nn.Module, arguments: tuple[Tensor, ...], name: str = name) -> tuple[Tensor, ...] | None:
            given.setdefault(name, []).append(arguments[0].detach())
            if until(name, arguments[0]):
                raise _EnoughError
            return (held[name],) if name in held else None

        handles.append(module.register_forward_pre_hook(before))
        if name in changed:
            handles.append(module.register_forward_hook(lambda _m, _i, output, name=name: changed[name](output)))
    try:
        with torch.no_grad(), contextlib.suppress(_EnoughError):
            given[""] = list(tensors(model(*inputs)))
    finally:
        for handle in handles:
            handle.remove()
    return given
