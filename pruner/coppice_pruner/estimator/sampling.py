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
from coppice_pruner.estimator.operators import Operator, record_operators
from coppice_pruner.models import zoo
from coppice_pruner.profiling import time_in_turn
from coppice_pruner.profiling.units import record_units

OPERATORS = "operators"
FAMILIES = ("vgg", "resnet", "vit")
"""Models that can be sampled; calibration itself needs no more than operators and one of these."""
_CHUNK = 24


@dataclass(frozen=True)
class Sizes:
    """How large sampled work is: a device wants work that fills it, and some that does not."""

    images: tuple[int, ...]
    """Pixels on a side, of models."""
    batches: tuple[int, ...]
    vgg: tuple[int, ...]
    """Channels of the first layers."""
    resnet: tuple[int, ...]
    vit: tuple[tuple[int, int], ...]
    """Widths and heads."""
    operators: tuple[int, ...]
    """Channels."""
    operator_images: tuple[int, ...]


CPU = Sizes(
    images=(8, 16, 24), batches=(1, 8, 32), vgg=(16, 32, 48, 64), resnet=(16, 32, 48),
    vit=((64, 4), (128, 8), (192, 6)), operators=(8, 16, 48, 64, 128), operator_images=(6, 12, 24),
)  # fmt: skip
CPU_QUICK = Sizes(
    images=(12,), batches=(4, 32), vgg=(24, 64), resnet=(16, 32), vit=((64, 4), (128, 8)), operators=(16, 64),
    operator_images=(12,),
)  # fmt: skip


_ON_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Piece:
    """Work that can be sampled."""

    model: str
    name: str
    run: Callable[[], object]
    operators: Callable[[], object] | tuple[nn.Module, tuple[Tensor, ...]]
    """What is recorded; a model with its batch, or a piece of work."""

    @property
    def whole(self) -> bool:
        """Whether it is a whole model."""
        return isinstance(self.operators, tuple)

    def recorded(self) -> tuple[Operator, ...]:
        """Return its operators."""
        return record_operators(*self.operators) if isinstance(self.operators, tuple) else (
            record_operators(self.operators)
        )  # fmt: skip


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
    work = pieces(family, CPU_QUICK if quick else CPU, layers=layers)
    result = []
    while chunk := list(itertools.islice(work, _CHUNK)):
        found = time_in_turn([_silent(piece.run) for piece in chunk], seconds_each=seconds_each, clock=clock)
        for piece, seconds in zip(chunk, found, strict=True):
            result.append(Sample(family, piece.model, piece.name, piece.recorded(), seconds, piece.whole))
    return tuple(result)


def pieces(family: str, sizes: Sizes, *, layers: bool = True, device: torch.device = _ON_CPU) -> Iterator[Piece]:
    """Yield what is sampled of one family.

    Args:
        family: operators, vgg, resnet or vit.
        sizes: Of the work.
        layers: Whether every layer of a model comes after it.
        device: Where it runs.
    """
    torch.manual_seed(0)
    if family == OPERATORS:
        yield from _operator_pieces(sizes, device)
        return
    for name, model, size, batch in _models(family, sizes):
        inputs = (torch.randn(batch, 1, size, size, device=device),)
        module = folded(model.eval().to(device), inputs)
        yield Piece(name, name, functools.partial(module, *inputs), (module, inputs))
        for unit in record_units(module, inputs) if layers else ():
            yield Piece(name, f"{name}, {unit.layer}", unit.run, unit.run)


def _models(family: str, sizes: Sizes) -> Iterator[tuple[str, nn.Module, int, int]]:
    images, batches = sizes.images, sizes.batches
    if family == "vgg":
        for size, width, batch in itertools.product(images, sizes.vgg, batches):
            model = zoo.vgg(widths=((width, width), (2 * width, 2 * width), (4 * width,)))
            yield f"vgg{width}, {size} pixels, batch {batch}", model, size, batch
    elif family == "resnet":
        for size, width, batch in itertools.product(images, sizes.resnet, batches):
            model = zoo.resnet(widths=(width, 2 * width, 4 * width))
            yield f"resnet{width}, {size} pixels, batch {batch}", model, size, batch
    else:
        for size, (width, heads), batch in itertools.product(images, sizes.vit, batches):
            model = zoo.vit(image_size=size, width=width, depth=3, heads=heads, mlp_width=4 * width)
            yield f"vit{width}, {size} pixels, batch {batch}", model, size, batch


def _operator_pieces(sizes: Sizes, device: torch.device) -> Iterator[Piece]:
    def piece(name: str, run: Callable[[], object]) -> Piece:
        return Piece(name, name, run, run)

    for width, batch, size in itertools.product(sizes.operators, sizes.batches, sizes.operator_images):
        image = torch.randn(batch, width, size, size, device=device)
        tokens = torch.randn(batch, size * size // 4, width, device=device)
        label = f"{width} channels, {size} pixels, batch {batch}"
        for kernel, stride in ((3, 1), (3, 2), (1, 1), (1, 2)):
            layer = nn.Conv2d(width, width, kernel, stride=stride, padding=kernel // 2).eval().to(device)
            yield piece(f"convolution {kernel} by {stride}, {label}", functools.partial(layer, image))
        depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width).eval().to(device)
        norm, mix = nn.LayerNorm(width).eval().to(device), nn.Linear(width, 2 * width).eval().to(device)
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
