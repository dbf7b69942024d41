"""A model in memory with everything its bundle needs to say of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coppice_api.bundle import ArchitectureSource, InputSpec, PruningStep, Quantized

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "int64": torch.int64}


@dataclass(frozen=True)
class LoadedModel:
    """A module and what it came from."""

    module: nn.Module
    """In eval mode."""
    architecture: ArchitectureSource
    """How the dense module is built."""
    inputs: tuple[InputSpec, ...]
    """Shapes without the batch dimension."""
    classes: tuple[str, ...] = ()
    pruning_plan: tuple[PruningStep, ...] = ()
    """Relative to the dense architecture."""
    sha256: str | None = None
    """Digest of the bundle it was loaded from; None for a model made in memory."""
    task: str = "image-classification"
    quantization: Quantized | None = None
    """How the module's linear layers are quantized; its norms are folded then."""

    def on_cpu(self) -> LoadedModel:
        """Return the same with its module moved to the CPU, where bundles are written."""
        return dataclasses.replace(self, module=self.module.cpu())

    def example_inputs(self, batch_size: int = 2) -> tuple[Tensor, ...]:
        """Return a batch for tracing, never for measuring, shapes (batch_size, ...).

        Zeros where values are floating point, random tokens, and masks of ones.
        """
        return tuple(_example(item, batch_size) for item in self.inputs)


def _example(spec: InputSpec, batch_size: int) -> Tensor:
    shape, dtype = (batch_size, *spec.shape), _DTYPES[spec.dtype]
    if dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    if spec.high is None:
        return torch.ones(shape, dtype=dtype)
    return torch.randint(0, spec.high, shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
