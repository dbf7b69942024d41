"""What a data set is here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from coppice_pruner.tasks import IMAGE_CLASSIFICATION, Task


@dataclass(frozen=True)
class Samples:
    """Samples in memory, for example images of shape (N, C, H, W) with labels of shape (N,)."""

    inputs: tuple[Tensor, ...]
    """What the model is called with, each of shape (N, ...): floating point, or int64 for tokens and masks."""
    targets: Tensor
    """What the task compares outputs with: int64 labels of shape (N,), or tokens of shape (N, L)."""

    def __len__(self) -> int:
        """Return N."""
        return len(self.targets)

    def take(self, chosen: Tensor | slice) -> Samples:
        """Return some of the samples."""
        return Samples(tuple(item[chosen] for item in self.inputs), self.targets[chosen])

    def batches(self, size: int) -> Iterator[Samples]:
        """Yield all samples in order, so many at a time; the last batch may be smaller."""
        for begin in range(0, len(self), size):
            yield self.take(slice(begin, begin + size))

    def to(self, device: torch.device) -> Samples:
        """Return the same samples on a device."""
        return Samples(tuple(item.to(device) for item in self.inputs), self.targets.to(device))


@dataclass(frozen=True)
class Splits:
    """Two disjoint splits of one data set."""

    train: Samples
    evaluation: Samples
    classes: tuple[str, ...]
    """Names of the classes; for a language model, empty."""
    task: Task = IMAGE_CLASSIFICATION

    def to(self, device: torch.device) -> Splits:
        """Return the same samples on a device."""
        return Splits(self.train.to(device), self.evaluation.to(device), self.classes, self.task)

    def sha256(self) -> str:
        """Return a digest of every value, in a fixed order."""
        digest = hashlib.sha256()
        for samples in (self.train, self.evaluation):
            for tensor in (*samples.inputs, samples.targets):
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()
