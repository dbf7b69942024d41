"""Samples for calibrating a device: single operators of every kind, and small models with all their layers.

Operators tell the kinds apart, which a model never does: behind every convolution of a plain network comes an
activation of the same size. Models tell what operators cost in company.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from coppice_pruner.deployment import folded
from coppice_pruner.estimator.calibration import Sample
from coppice_pruner.estimator.operators import record_operators
from coppice_pruner.models import zoo
from coppice_pruner.profiling import time_in_turn
from coppice_pruner.profiling.units import record_units

OPERATORS = "operators"
FAMILIES = ("vgg", "resnet", "vit")
"""Models that can be sampled; calibration itself needs no more than operators and one of these."""
_CHUNK = 24


@dataclass(frozen=True)
class _Piece:
    model: str
    name: str
    run: Callable[[], object]
    operators: Callable[[], object] | tuple[nn.Module, tuple[Tensor, ...]]
    """What is recorded; a model with its batch, or a piece of work."""


def take_samples(
    family: str, *, seconds_each: float, quick: bool = False, layers: bool = True,
    clock: Callable[[], float] = time.process_time,
) -> tuple[Sample, ...]:  # fmt: skip
    """Measure the samples of one family on this CPU.

    Args:
        family: operators, vgg, resnet or vit.
        seconds_each: Time for each sample.
        quick: Fewer sizes.
        layers: Whether every layer of a model is a sample too, besides the whole model.
        clock: CPU seconds.
    """
    pieces = _operator_pieces(quick) if family == OPERATORS else _model_pieces(family, quick, layers)
    result = []
    while chunk := list(itertools.islice(pieces, _CHUNK)):
        found = time_in_turn([_silent(piece.run) for piece in chunk], seconds_each=seconds_each, clock=clock)
        for piece, seconds in zip(chunk, found, strict=True):
            work = piece.operators
            operators = record_operators(*work) if isinstance(work, tuple) else record_operators(work)
            result.append(Sample(family, piece.model, piece.name, operators, seconds, isinstance(work, tuple)))
    return tuple(result)


def models(family: str, *, quick: bool = False) -> Iterator[tuple[str, nn.Module, tuple[Tensor, ...]]]:
    """Yield models of a family as they would be deployed, each with a batch."""
    torch.manual_seed(0)
    for name, model, size, batch in _models(family, quick):
        inputs = (torch.randn(batch, 1, size, size),)
        yield name, folded(model.eval(), inputs), inputs


def _models(family: str, quick: bool) -> Iterator[tuple[str, nn.Module, int, int]]:
    sizes, batches = ((12,), (4, 32)) if quick else ((8, 16, 24), (1, 8, 32))
    if family == "vgg":
        for size, width, batch in itertools.product(sizes, (24, 64) if quick else (16, 32, 48, 64), batches):
            model = zoo.vgg(widths=((width, width), (2 * width, 2 * width), (4 * width,)))
            yield f"vgg{width}, {size} pixels, batch {batch}", model, size, batch
    elif family == "resnet":
        for size, width, batch in itertools.product(sizes, (16, 32) if quick else (16, 32, 48), batches):
            model = zoo.resnet(widths=(width, 2 * width, 4 * width))
            yield f"resnet{width}, {size} pixels, batch {batch}", model, size, batch
    else:
        shapes = ((64, 4), (128, 8)) if quick else ((64, 4), (128, 8), (192, 6))
        for size, (width, heads), batch in itertools.product(sizes, shapes, batches):
            model = zoo.vit(image_size=size, width=width, depth=3, heads=heads, mlp_width=4 * width)
            yield f"vit{width}, {size} pixels, batch {batch}", model, size, batch


def _model_pieces(family: str, quick: bool, layers: bool) -> Iterator[_Piece]:
    for name, model, inputs in models(family, quick=quick):
        whole = functools.partial(model, *inputs)
        yield _Piece(name, name, whole, (model, inputs))
        for unit in record_units(model, inputs) if layers else ():
            yield _Piece(name, f"{name}, {unit.layer}", unit.run, unit.run)


def _operator_pieces(quick: bool) -> Iterator[_Piece]:
    torch.manual_seed(0)
    widths = (16, 64) if quick else (8, 16, 48, 64, 128)
    batches = (4, 32) if quick else (1, 8, 32)

    def piece(name: str, run: Callable[[], object]) -> _Piece:
        return _Piece(name, name, run, run)

    for width, batch, size in itertools.product(widths, batches, (12,) if quick else (6, 12, 24)):
        image = torch.randn(batch, width, size, size)
        tokens = torch.randn(batch, size * size // 4, width)
        label = f"{width} channels, {size} pixels, batch {batch}"
        for kernel, stride in ((3, 1), (3, 2), (1, 1), (1, 2)):
            layer = nn.Conv2d(width, width, kernel, stride=stride, padding=kernel // 2).eval()
            yield piece(f"convolution {kernel} by {stride}, {label}", functools.partial(layer, image))
        depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width).eval()
        norm, mix = nn.LayerNorm(width).eval(), nn.Linear(width, 2 * width).eval()
        heads = tokens.view(*tokens.shape[:-1], -1, 8 if width == 8 else 16).transpose(1, 2)
        for name, run in (
            ("depthwise", functools.partial(depthwise, image)),
            ("linear", functools.partial(mix, tokens)),
            ("product", functools.partial(torch.matmul, tokens, tokens.transpose(1, 2))),
            ("attention", functools.partial(functional.scaled_dot_product_attention, heads, heads, heads)),
            ("relu", functools.partial(torch.relu, image)),
            ("addition", functools.partial(torch.add, image, image)),
            ("gelu", functools.partial(functional.gelu, tokens)),
            ("layer norm", functools.partial(norm, tokens)),
            ("pooling", functools.partial(functional.max_pool2d, image, 2)),
            ("mean", functools.partial(functional.adaptive_avg_pool2d, image, 1)),
            ("copy", tokens.transpose(1, 2).contiguous),
            ("view", functools.partial(torch.transpose, tokens, 1, 2)),
        ):
            yield piece(f"{name}, {label}", run)


def _silent(run: Callable[[], object]) -> Callable[[], None]:
    def silent() -> None:
        run()

    return silent
