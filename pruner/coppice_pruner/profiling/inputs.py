"""Inputs for measuring a model when there are no data: random, in the shapes that it takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coppice_api.bundle import InputSpec


def random_inputs(specs: Sequence[InputSpec], batch_size: int, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Return one batch: normal where values are floating point, tokens below the vocabulary's size, masks of ones.

    Args:
        specs: Of the model, without the batch dimension.
        batch_size: Samples.
        seed: Of the values; energy hardly depends on them, unless they are all zero.
    """
    generator = torch.Generator().manual_seed(seed)
    result = []
    for spec in specs:
        shape, dtype = (batch_size, *spec.shape), getattr(torch, spec.dtype)
        if dtype.is_floating_point:
            result.append(torch.randn(shape, generator=generator).to(dtype))
        elif spec.high is None:
            result.append(torch.ones(shape, dtype=dtype))
        else:
            result.append(torch.randint(0, spec.high, shape, dtype=dtype, generator=generator))
    return tuple(result)
