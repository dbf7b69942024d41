"""Data sets: a training and an evaluation split, as tensors in memory."""

from coppice_pruner.data.builtin import digits, prose, topics
from coppice_pruner.data.load import load
from coppice_pruner.data.shapes import shapes100
from coppice_pruner.data.splits import Samples, Splits

__all__ = ["Samples", "Splits", "digits", "load", "prose", "shapes100", "topics"]
