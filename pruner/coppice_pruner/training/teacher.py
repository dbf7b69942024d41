"""The dense model's answers to the training samples, which a pruned one is fine-tuned towards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coppice_pruner.data import Samples
from coppice_pruner.training.processes import SINGLE, Processes

_BATCH_SIZE = 256


class Teacher:
    """A model that others learn from.

    Neither it nor the samples change during a run, so each sample is asked about once, if its answer is no larger than
    the sample itself: a classifier's always is, a language model's (one score a token of the vocabulary) never. Passes
    through the dense model are a third to a half of a fine-tuning otherwise.

    Args:
        module: In eval mode, not changed.
        samples: The training split of every fine-tuning that it is given to.
        processes: Those that share the work of asking.
    """

    def __init__(self, module: nn.Module, samples: Samples, processes: Processes = SINGLE) -> None:
        self._module, self._samples, self._processes = module, samples, processes
        self._kept: Tensor | None = None
        self._asks_again = False

    def answers(self, chosen: Tensor, batch: Samples) -> Tensor:
        """Return what the model answers to some training samples.

        Args:
            chosen: Their indices, of shape (N,).
            batch: The samples themselves, as the student sees them.

        Returns:
            Of shape (N, ...), without a gradient.
        """
        with torch.no_grad():
            if self._kept is None and not self._asks_again:
                with torch.autocast(self._samples.inputs[0].device.type, enabled=False):
                    self._ask()
            return self._module(*batch.inputs) if self._kept is None else self._kept[chosen]

    def _ask(self) -> None:
        """Keep the answers to all samples, or find that they are too large for that.

        In batches that are always the same, whatever the first student's order is: a resumed run gets the same bits.
        """
        first = self._samples.take(slice(1))
        answer = self._module(*first.inputs)
        self._asks_again = answer.nbytes > sum(item.nbytes for item in first.inputs)
        if self._asks_again:
            return
        kept = answer.new_zeros((len(self._samples), *answer.shape[1:]))
        rank, count = self._processes.rank, self._processes.count
        for place, begin in enumerate(range(0, len(kept), _BATCH_SIZE)):
            if place % count == rank:
                part = slice(begin, begin + _BATCH_SIZE)
                kept[part] = self._module(*self._samples.take(part).inputs)
        self._kept = self._processes.sum(kept)
