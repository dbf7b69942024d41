"""Real data that a package ships, so that the first run needs no download."""

from __future__ import annotations

import torch

from coppice_pruner.data.splits import Splits

_EVALUATION_SHARE = 0.3
_SPLIT_SEED = 0


def digits() -> Splits:
    """Return 1,797 real handwritten digits of 8 x 8 pixels, split 70 to 30 with equal shares of each digit.

    Values are scaled to 0..1 and then standardised with the training split's mean and deviation.

    Source: UCI "Optical Recognition of Handwritten Digits" test set, as scikit-learn ships it.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16.0
    labels = torch.from_numpy(bunch.target).long()
    train, evaluation = train_test_split(
        range(len(labels)), test_size=_EVALUATION_SHARE, random_state=_SPLIT_SEED, stratify=bunch.target
    )
    mean, deviation = images[train].mean(), images[train].std()
    images = (images - mean) / deviation
    return Splits(
        images[train],
        labels[train],
        images[evaluation],
        labels[evaluation],
        tuple(str(digit) for digit in range(10)),
    )
