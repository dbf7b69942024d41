"""Channels that pass from one linear layer to another one by one, found by trying.

Some channels of a layer's output are changed; a layer whose input then differs in just these channels reads them
through nothing but elementwise operations. Two layers whose channels meet there (a gate and what
it gates) belong together. This needs no graph of the forward pass, so it works where tracing does not: caches, windows,
masks and control flow do not matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coppice_pruner.surgery.branch import tensors
from coppice_pruner.surgery.layers import is_layer, is_linear, layer_widths

_TRIED = 3
"""Channels of each layer that are changed. The invariant catches a layer whose channels behave differently."""


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
        example_inputs: Of any batch size; the first sample is used, whose values matter where they steer the forward
            pass (tokens).
        without: Modules that are part of something else, such as attention.
    """
    sample = tuple(item[:1] for item in example_inputs)
    clean = _inputs_of_layers(model, sample, {}, {})
    readers = {
        name: found
        for name, module in model.named_modules()
        if is_linear(module) and name not in without and (found := _readers(model, sample, name, clean))
    }
    # Alone only where not all hold together: a forward pass each is what this costs.
    if not _only_read_there(model, sample, readers, clean):
        readers = {
            name: found for name, found in readers.items() if _only_read_there(model, sample, {name: found}, clean)
        }
    by_readers: dict[tuple[str, ...], list[str]] = {}
    for name, found in readers.items():
        by_readers.setdefault(found, []).append(name)
    return tuple(
        Passage(tuple(producers), found, _width(model, producers[0])) for found, producers in by_readers.items()
    )


Recorded = dict[str, list[Tensor]]


def _width(model: nn.Module, name: str) -> int:
    return layer_widths(model.get_submodule(name))[1]


def _tried(width: int) -> Tensor:
    """Return the channels of a layer that are changed."""
    return torch.randperm(width, generator=torch.Generator().manual_seed(0))[:_TRIED]


def _disturbed(output: Tensor) -> Tensor:
    """Return a layer's output with some channels changed, each by another amount."""
    changed = output.clone()
    for place, channel in enumerate(_tried(output.shape[-1]).tolist(), start=1):
        changed[..., channel] += place + changed[..., channel].abs()
    return changed


def _readers(model: nn.Module, sample: tuple[Tensor, ...], name: str, clean: Recorded) -> tuple[str, ...]:
    """Return the layers whose inputs differ in just the channels that a layer's output was changed in."""
    width = _width(model, name)
    if width < _TRIED or len(clean.get(name, ())) != 1:
        return ()
    readers: list[str] = []

    def mixed(other: str, given: Tensor) -> bool:
        """Note a reader; return whether channels have met here, behind which none is looked for."""
        before = clean[other]
        if len(before) == 1 and before[0].shape == given.shape and torch.equal(before[0], given):
            return False
        if not _reads_one_to_one(before, given, model, other, width):
            return True
        readers.append(other)
        return False

    _inputs_of_layers(model, sample, {name: _disturbed}, {}, until=mixed)
    return tuple(readers)


def _only_read_there(
    model: nn.Module, sample: tuple[Tensor, ...], readers: Mapping[str, tuple[str, ...]], clean: Recorded
) -> bool:
    """Return whether nothing else changes with these layers, their readers given what they read before.

    Nor may what the model gives, where no layer looks.
    """
    held = {reader: clean[reader][0] for found in readers.values() for reader in found}
    rest = _inputs_of_layers(model, sample, dict.fromkeys(readers, _disturbed), held)
    return all(
        other in held or all(torch.equal(one, two) for one, two in zip(clean[other], values, strict=True))
        for other, values in rest.items()
    )


def _reads_one_to_one(clean: list[Tensor], disturbed: Tensor, model: nn.Module, reader: str, width: int) -> bool:
    module = model.get_submodule(reader)
    if len(clean) != 1 or not is_linear(module) or layer_widths(module)[0] != width:
        return False
    if clean[0].shape != disturbed.shape:
        return False
    differs = (clean[0] != disturbed).reshape(-1, width).any(dim=0)
    # An activation may swallow a change (a ReLU below zero); what arrives must arrive in its own channel.
    own = torch.zeros_like(differs)
    own[_tried(width).to(own.device)] = True
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
