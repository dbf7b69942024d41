"""What a data set is here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Splits:
    """Two disjoint splits. Images are float32 of shape (N, C, H, W), labels int64 of shape (N,)."""

    train_images: Tensor
    train_labels: Tensor
    evaluation_images: Tensor
    evaluation_labels: Tensor
    classes: tuple[str, ...]

    def to(self, device: torch.device) -> Splits:
        """Return the same samples on a device."""
        return Splits(
            self.train_images.to(device),
            self.train_labels.to(device),
            self.evaluation_images.to(device),
            self.evaluation_labels.to(device),
            self.classes,
        )

    def sha256(self) -> str:
        """Return a digest of every value, in a fixed order."""
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.evaluation_images, self.evaluation_labels):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()
