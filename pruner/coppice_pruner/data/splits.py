"""What a data set is here, and which one a URI names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from coppice_pruner.errors import InputRefusedError


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


def load(uri: str, *, sha256: str | None = None) -> Splits:
    """Return the data set that a URI names.

    Raises:
        InputRefusedError: If this version cannot read it, or its digest is not the one pinned.
    """
    from coppice_pruner.data.builtin import digits

    if uri != "builtin://digits":
        raise InputRefusedError(f"spec.dataset.uri {uri!r}: this version reads builtin://digits only")
    splits = digits()
    if sha256 is not None and splits.sha256() != sha256:
        raise InputRefusedError(
            f"spec.dataset.sha256 is {sha256}, but {uri} has digest {splits.sha256()}: pin that one, or find out why "
            "the data changed"
        )
    return splits
