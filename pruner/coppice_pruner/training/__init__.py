"""Fine-tuning and evaluation."""

from coppice_pruner.training.evaluate import evaluate
from coppice_pruner.training.fine_tune import DivergedError, fine_tune

__all__ = ["DivergedError", "evaluate", "fine_tune"]
