"""Fine-tuning and evaluation."""

from coppice_pruner.training.evaluate import Quality, evaluate
from coppice_pruner.training.fine_tune import DivergedError, FineTuned, OutOfMemoryError, fine_tune
from coppice_pruner.training.layout import trained_layout
from coppice_pruner.training.processes import SINGLE, Processes, end_lost, joined
from coppice_pruner.training.randomness import seed_all, seeded
from coppice_pruner.training.teacher import Teacher

__all__ = [
    "SINGLE",
    "DivergedError",
    "FineTuned",
    "OutOfMemoryError",
    "Processes",
    "Quality",
    "Teacher",
    "end_lost",
    "evaluate",
    "fine_tune",
    "joined",
    "seed_all",
    "seeded",
    "trained_layout",
]
