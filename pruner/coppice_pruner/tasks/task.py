"""Tasks as values: a name, a loss, and when an answer is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

IGNORED_LABEL = -100
"""Targets with this value are no answer to be judged: padding."""


@dataclass(frozen=True)
class Task:
    """A task. A user's own is one more value: give its loss and when an answer is right."""

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    """Mean loss of a batch from the model's outputs and the targets; a scalar with a gradient."""
    correct: Callable[[Tensor, Tensor], Tensor]
    """For every answer, 0..1, how right it is; any shape. Its mean over a split is the accuracy."""
    logits: bool = True
    """Whether the last dimension of outputs holds the logits of classes; otherwise outputs are compared as numbers."""
    perplexity: bool = False
    """Whether quality is exp(mean loss), and the budget objective.maxPerplexityIncreasePercent."""


def _class_loss(logits_NC: Tensor, targets_N: Tensor) -> Tensor:
    return functional.cross_entropy(logits_NC, targets_N)


def _class_correct(logits_NC: Tensor, targets_N: Tensor) -> Tensor:
    return (logits_NC.argmax(dim=1) == targets_N).float()


def _token_loss(logits_NLV: Tensor, tokens_NL: Tensor) -> Tensor:
    """Return the cross entropy of every token but the first, given those before it."""
    logits, wanted = logits_NLV[:, :-1].flatten(0, 1), tokens_NL[:, 1:].flatten()
    return functional.cross_entropy(logits.float(), wanted, ignore_index=IGNORED_LABEL)


def _token_correct(logits_NLV: Tensor, tokens_NL: Tensor) -> Tensor:
    predicted, wanted = logits_NLV[:, :-1].argmax(dim=-1), tokens_NL[:, 1:]
    return (predicted == wanted)[wanted != IGNORED_LABEL].float()


IMAGE_CLASSIFICATION = Task("image-classification", _class_loss, _class_correct)
TEXT_CLASSIFICATION = Task("text-classification", _class_loss, _class_correct)
CAUSAL_LANGUAGE_MODELING = Task("causal-language-modeling", _token_loss, _token_correct, perplexity=True)
TASKS = {task.name: task for task in (IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, CAUSAL_LANGUAGE_MODELING)}
