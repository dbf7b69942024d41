"""Data sets: a training and an evaluation split, as tensors in memory."""

from coppice_pruner.data.builtin import digits
from coppice_pruner.data.load import load
from coppice_pruner.data.splits import Splits

__all__ = ["Splits", "digits", "load"]
