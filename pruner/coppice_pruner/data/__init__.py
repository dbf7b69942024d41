"""Data sets: a training and an evaluation split, as tensors in memory."""

from coppice_pruner.data.builtin import digits
from coppice_pruner.data.splits import Splits, load

__all__ = ["Splits", "digits", "load"]
