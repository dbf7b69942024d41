"""The last fine-tuning (fineTune.finalEpochs): on a copy, and kept only if the answers are no worse for it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

from torch import nn

from coppice_api.prunejob import Algorithm
from coppice_pruner.data import Splits
from coppice_pruner.training import DivergedError, Processes, Quality, Teacher, fine_tune

# No fine-tuning of the loop has this seed: theirs are the spec's plus 1000 at most.
_SEED_OFFSET = 2000
_log = logging.getLogger(__name__)


def polish(
    model: nn.Module,
    quality: Quality,
    data: Splits,
    algorithm: Algorithm,
    *,
    teacher: Teacher | None,
    processes: Processes,
    evaluate: Callable[[nn.Module], Quality],
    on_epoch: Callable[[int, float], None],
) -> tuple[nn.Module, Quality]:
    """Return the model after its final epochs and its quality, or the model as it was if that is no better.

    Args:
        model: Not changed.
        quality: Of the model.
        data: Training split.
        algorithm: fineTune and seed of the spec.
        teacher: The dense model; None trains on targets only.
        processes: Those that share the work.
        evaluate: Gives the quality of a model.
        on_epoch: Told the epoch, counted from 1, and its mean loss.
    """
    candidate = copy.deepcopy(model)
    settings = algorithm.fine_tune.model_copy(update={"epochs": algorithm.fine_tune.final_epochs})
    try:
        fine_tune(
            candidate, data, settings,
            seed=algorithm.seed + _SEED_OFFSET, teacher=teacher,
            processes=processes, on_epoch=on_epoch,
        )  # fmt: skip
    except DivergedError as error:
        _log.warning("the final epochs are not kept: %s", error)
        return model, quality
    processes.follow(candidate)
    found = evaluate(candidate)
    if _worse(found, quality, perplexity=data.task.perplexity):
        _log.info(
            "the final epochs are not kept: accuracy %.4f, it was %.4f", found.accuracy_ratio, quality.accuracy_ratio
        )
        return model, quality
    return candidate, found


def _worse(found: Quality, before: Quality, *, perplexity: bool) -> bool:
    # Written so that NaN is worse.
    if perplexity:
        return not found.loss <= before.loss
    return not found.accuracy_ratio >= before.accuracy_ratio
