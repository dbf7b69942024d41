"""builtin://shapes100: drawn images of ten outlines, each filled in ten ways, in clutter and noise.

Hard enough that a network needs its width: position, size, turn, contrast and clutter vary, and a class is told by the
outline and the filling together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from coppice_pruner.data.splits import Samples, Splits

SIZE = 24
CLASSES = 100
OUTLINES = (
    "disc", "square", "triangle", "star", "cross", "ring", "half disc", "pentagon", "bar", "heart"
)  # fmt: skip
FILLINGS = (
    "plain", "stripes along", "stripes across", "checks", "dots", "rim", "left half", "gradient", "spiral", "rings"
)  # fmt: skip
_TRAIN_EACH, _EVALUATION_EACH = 120, 30
_NOISE = 0.15
_CLUTTER = 1


def shapes100(*, train_each: int = _TRAIN_EACH, evaluation_each: int = _EVALUATION_EACH) -> Splits:
    """Return images of shape (1, 24, 24), standardised, with 100 classes in equal shares; the same every time.

    Args:
        train_each: Training images of each class.
        evaluation_each: Evaluation images of each class.
    """
    train = _draw(train_each, seed=1)
    evaluation = _draw(evaluation_each, seed=2)
    mean, deviation = train.mean(), train.std()
    labels = torch.arange(CLASSES)
    return Splits(
        Samples(((train - mean) / deviation,), labels.repeat(train_each)),
        Samples(((evaluation - mean) / deviation,), labels.repeat(evaluation_each)),
        tuple(f"{outline}, {filling}" for outline in OUTLINES for filling in FILLINGS),
    )


def _draw(each: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat(each)
    count = len(labels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*(shape or (count,)), generator=generator)

    centres = torch.stack([uniform(-0.25, 0.25), uniform(-0.25, 0.25)])
    x, y = _local(centres, uniform(0.5, 0.72), uniform(-math.pi / 5, math.pi / 5))
    inside = torch.sigmoid(24 * _by_label(_outlines(x, y), labels // 10))
    ink = _by_label(_fillings(x, y, _by_label(_outlines(x, y), labels // 10)), labels % 10)
    contrast = uniform(0.6, 1.0)[:, None, None] * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)[:, None, None]
    images = contrast * inside * (0.35 + 0.65 * ink)
    for _ in range(_CLUTTER):
        images = images + _stroke(uniform, count) * (1 - inside)
    images = images + uniform(-0.3, 0.3)[:, None, None]
    return (images + _NOISE * torch.randn(images.shape, generator=generator)).unsqueeze(1)


def _local(centres: Tensor, scale: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Return every pixel's coordinates, about -1..1 inside the shape, each of shape (N, SIZE, SIZE)."""
    axis = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    dx = (columns[None] - centres[0][:, None, None]) / scale[:, None, None]
    dy = (rows[None] - centres[1][:, None, None]) / scale[:, None, None]
    cosine, sine = turn.cos()[:, None, None], turn.sin()[:, None, None]
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def _outlines(x: Tensor, y: Tensor) -> list[Tensor]:
    """Return for each outline how far inside it a pixel lies, negative outside."""
    radius, angle = (x**2 + y**2).sqrt(), torch.atan2(y, x)
    return [
        1 - radius,
        0.85 - torch.maximum(x.abs(), y.abs()),
        torch.minimum(0.6 - y, torch.minimum(y + 1 - 1.6 * x, y + 1 + 1.6 * x)) * 0.6,
        0.62 + 0.38 * torch.cos(5 * angle) - radius,
        torch.maximum(torch.minimum(0.35 - x.abs(), 0.95 - y.abs()), torch.minimum(0.35 - y.abs(), 0.95 - x.abs())),
        0.3 - (radius - 0.7).abs(),
        torch.minimum(1 - radius, y + 0.1),
        0.88 - radius * torch.cos((angle + math.pi / 10).remainder(2 * math.pi / 5) - math.pi / 5),
        torch.minimum(0.4 - x.abs(), 1 - y.abs()),
        0.75 - ((x.abs() - 0.35) ** 2 + (y - 0.55 * x.abs() + 0.1) ** 2).sqrt(),
    ]


def _fillings(x: Tensor, y: Tensor, depth: Tensor) -> list[Tensor]:
    radius, angle = (x**2 + y**2).sqrt(), torch.atan2(y, x)
    turns = 3 * math.pi

    def sharp(wave: Tensor) -> Tensor:
        return torch.sigmoid(8 * wave)

    return [
        torch.ones_like(x),
        sharp(torch.sin(turns * x)),
        sharp(torch.sin(turns * y)),
        sharp(torch.sin(turns * x) * torch.sin(turns * y)),
        sharp(torch.cos(turns * x) + torch.cos(turns * y) - 0.6),
        sharp((0.2 - depth) * 4),
        sharp(-x * 4),
        ((y + 1) / 2).clamp(0, 1),
        sharp(torch.sin(angle * 2 + 5 * radius)),
        sharp(torch.sin(1.5 * turns * radius)),
    ]


def _by_label(choices: list[Tensor], which: Tensor) -> Tensor:
    return torch.stack(choices)[which, torch.arange(len(which))]


def _stroke(uniform: object, count: int) -> Tensor:
    draw = uniform
    assert callable(draw)
    x, y = _local(torch.stack([draw(-0.9, 0.9), draw(-0.9, 0.9)]), draw(0.15, 0.35), draw(-math.pi, math.pi))
    strength = draw(-0.8, 0.8)[:, None, None]
    result: Tensor = strength * torch.sigmoid(12 * torch.minimum(0.25 - x.abs(), 1 - y.abs()))
    return result
