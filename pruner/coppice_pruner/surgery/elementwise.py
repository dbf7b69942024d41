"""Channels that pass from one linear layer to another one by one, found by trying.

Some channels of a layer's output are changed; a layer whose input then differs in just these channels reads them
through nothing but elementwise operations. Two layers whose channels meet there (a gate and what
it gates) belong together. This needs no graph of the forward pass, so it works where tracing does not: caches, windows,
masks and control flow do not matter.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from coppice_pruner.surgery.branch import tensors
from coppice_pruner.surgery.layers import is_layer, is_linear, layer_widths

_NONE: Mapping[str, Any] = MappingProxyType({})
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
    clean = _run(model, sample)
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


@dataclass(frozen=True)
class _Pass:
    """What one forward pass showed, in the order in which layers were called."""

    given: dict[str, list[Tensor]] = field(default_factory=dict)
    """To every layer, once for each call; under "" what the model gave."""
    outputs: dict[str, Tensor] = field(default_factory=dict)
    """Of every layer, of its last call."""

    def before(self, name: str) -> dict[str, Tensor]:
        """Return the outputs of layers that were called once, and before another one."""
        earlier = itertools.takewhile(lambda other: other != name, self.given)
        return {other: self.outputs[other] for other in earlier if len(self.given[other]) == 1}


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


def _readers(model: nn.Module, sample: tuple[Tensor, ...], name: str, clean: _Pass) -> tuple[str, ...]:
    """Return the layers whose inputs differ in just the channels that a layer's output was changed in."""
    width = _width(model, name)
    if width < _TRIED or len(clean.given.get(name, ())) != 1:
        return ()
    readers: list[str] = []

    def mixed(other: str, given: Tensor) -> bool:
        """Note a reader; return whether channels have met here, behind which none is looked for."""
        before = clean.given[other]
        if len(before) == 1 and before[0].shape == given.shape and torch.equal(before[0], given):
            return False
        if not _reads_one_to_one(before, given, model, other, width):
            return True
        readers.append(other)
        return False

    _run(model, sample, {name: _disturbed}, replayed=clean.before(name), until=mixed)
    return tuple(readers)


def _only_read_there(
    model: nn.Module, sample: tuple[Tensor, ...], readers: Mapping[str, tuple[str, ...]], clean: _Pass
) -> bool:
    """Return whether nothing else changes with these layers, their readers given what they read before.

    Nor may what the model gives, where no layer looks.
    """
    held = {reader: clean.given[reader][0] for found in readers.values() for reader in found}
    rest = _run(model, sample, dict.fromkeys(readers, _disturbed), held)
    return all(
        other in held or all(torch.equal(one, two) for one, two in zip(clean.given[other], values, strict=True))
        for other, values in rest.given.items()
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


def _run(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    changed: Mapping[str, Callable[[Tensor], Tensor]] = _NONE,
    held: Mapping[str, Tensor] = _NONE,
    *,
    replayed: Mapping[str, Tensor] = _NONE,
    until: Callable[[str, Tensor], bool] = lambda _name, _given: False,
) -> _Pass:
    """Return what a forward pass shows when some outputs are changed and some inputs held.

    Args:
        model: In eval mode; not changed.
        inputs: One batch.
        changed: Layers, with what changes the output.
        held: Layers, with what they are given instead.
        replayed: Layers that are not run, with their outputs.
        until: The pass ends at the first layer for whose name and input this holds.
    """
    seen = _Pass()
    with contextlib.ExitStack() as stack:

        def before(name: str, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            seen.given.setdefault(name, []).append(arguments[0].detach())
            if until(name, arguments[0]):
                raise _EnoughError
            return (held[name],) if name in held else None

        def after(name: str, output: Tensor) -> Tensor:
            output = changed[name](output) if name in changed else output
            # Activations may work in place.
            seen.outputs[name] = output.clone()
            return output

        for name, module in model.named_modules():
            if not is_layer(module):
                continue
            for handle in (
                module.register_forward_pre_hook(lambda _m, arguments, name=name: before(name, arguments)),
                module.register_forward_hook(lambda _m, _arguments, output, name=name: after(name, output)),
            ):
                stack.callback(handle.remove)
            if name in replayed:
                stack.enter_context(_replayed(module, replayed[name]))
        with torch.no_grad(), contextlib.suppress(_EnoughError):
            seen.given[""] = list(tensors(model(*inputs)))
    return seen


@contextlib.contextmanager
def _replayed(module: nn.Module, output: Tensor) -> Iterator[None]:
    """Have a module answer without computing."""
    own = module.__dict__.get("forward")
    module.forward = lambda *_arguments, **_options: output.clone()
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
