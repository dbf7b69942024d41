"""Quality on the evaluation split (Algorithm 1, lines 1 and 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from coppice_pruner.data import Samples
from coppice_pruner.tasks import Task

_BATCH_SIZE = 256


@dataclass(frozen=True)
class Quality:
    """How good a model's answers are."""

    accuracy_ratio: float
    """Share of right answers, 0..1."""
    loss: float
    """Mean over the split's answers, in nats for cross entropy."""

    @property
    def perplexity(self) -> float:
        """exp(loss): how many tokens the model hesitates between."""
        return math.exp(min(self.loss, 700.0))


def evaluate(model: nn.Module, samples: Samples, task: Task) -> Quality:
    """Return the quality of a model on some samples.

    Args:
        model: Left in eval mode.
        samples: At least one.
        task: Judges the outputs.
    """
    model.eval()
    right, answers, loss = 0.0, 0, 0.0
    with torch.inference_mode():
        for batch in samples.batches(_BATCH_SIZE):
            outputs = model(*batch.inputs)
            correct = task.correct(outputs, batch.targets)
            right += float(correct.double().sum())
            answers += correct.numel()
            loss += float(task.loss(outputs, batch.targets)) * correct.numel()
    return Quality(right / answers, loss / answers)
