"""Accuracy on the evaluation split (Algorithm 1, lines 1 and 13)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BATCH_SIZE = 512


def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images whose greatest output is their label, 0..1.

    Args:
        model: Gives logits of shape (N, classes). Left in eval mode.
        images: Shape (N, C, H, W).
        labels: Shape (N,), int64.
    """
    model.eval()
    correct = 0
    with torch.inference_mode():
        for batch, want in zip(images.split(_BATCH_SIZE), labels.split(_BATCH_SIZE), strict=True):
            correct += int((model(batch).argmax(dim=1) == want).sum())
    return correct / len(labels)
