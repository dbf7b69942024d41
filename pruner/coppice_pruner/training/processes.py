"""The processes of a run that torchrun started on several GPUs or nodes.

Rank 0 decides what to prune and measures; every rank does the same surgery and trains on its part of each batch.
Gradients are averaged once a step and buffers follow rank 0, so that all ranks hold one model. Surgery gives a model
new parameters at every step; a wrapper that registers hooks on the old ones would have to be made again each time, so
gradients are averaged here by one collective of all of them: the same numbers as torch's DistributedDataParallel gives
(a test compares them), and where parts differ in size the mean over the samples rather than over the parts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from coppice_api.constants import ExitCode
from coppice_pruner.training.heartbeat import LOST_SECONDS, Heartbeat

Value = TypeVar("Value")
_log = logging.getLogger(__name__)
_PATIENCE = timedelta(hours=2)
"""How long a rank waits for the others. Torch's 10 and 30 minutes are less than rank 0 may measure alone."""


@dataclass(frozen=True)
class Processes:
    """How many share the work, and which one this is."""

    rank: int = 0
    count: int = 1
    heartbeat: Heartbeat | None = None
    """Between them, where there are several."""

    def tell(self, own_joules: Callable[[], float]) -> None:
        """Have the others told what this process has used; called from another thread."""
        if self.heartbeat is not None:
            self.heartbeat.own_joules = own_joules

    @property
    def others_joules(self) -> float:
        """What the others had used a moment ago."""
        return self.heartbeat.others_joules if self.heartbeat is not None else 0.0

    @property
    def leads(self) -> bool:
        """Whether this process decides, measures and writes."""
        return self.rank == 0

    def part(self, chosen: Tensor) -> Tensor:
        """Return this process's share of a batch's indices; every share has at least one."""
        if self.count == 1:
            return chosen
        # A batch smaller than the number of processes is trained on by all alike.
        return chosen[self.rank :: self.count] if len(chosen) >= self.count else chosen

    def weight(self, own: int, batch: int) -> float:
        """Return what this process's mean loss counts, so that the mean over processes is the mean over the batch.

        Example: of 5 samples one process has 3 and the other 2, which count 6/5 and 4/5.

        Args:
            own: Samples in this process's part.
            batch: Samples in all parts.
        """
        return self.count * own / batch if batch >= self.count else 1.0

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, piece in zip(gradients, flat.split([item.numel() for item in gradients]), strict=True):
            gradient.copy_(piece.view_as(gradient))

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of the processes' tensors, each of one shape; in place."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def mean(self, value: float) -> float:
        """Return the mean of a number over the processes."""
        if self.count == 1:
            return value
        total = torch.tensor([value], dtype=torch.float64, device=_device())
        distributed.all_reduce(total)
        return float(total) / self.count

    def follow(self, model: nn.Module) -> None:
        """Give every process the parameters and buffers of rank 0."""
        if self.count == 1:
            return
        for tensor in (*model.parameters(), *model.buffers()):
            distributed.broadcast(tensor.data, src=0)

    def decide(self, value: Value) -> Value:
        """Return rank 0's value in every process."""
        if self.count == 1:
            return value
        values: list[Value] = [value]
        distributed.broadcast_object_list(values, src=0, device=_device())
        return values[0]


SINGLE = Processes()


def end_lost(message: str) -> None:
    """End this process at once, whatever it waits for."""
    _log.error("%s", message)
    logging.shutdown()
    os._exit(ExitCode.PEER_LOST)


@contextmanager
def joined(lost: Callable[[str], None] = end_lost, *, lost_seconds: float = LOST_SECONDS) -> Iterator[Processes]:
    """Join the processes that torchrun started (RANK, WORLD_SIZE); alone, give `SINGLE`.

    Whoever has joined already stays so: a group that is made anew from the same store can meet the old one's addresses.

    Args:
        lost: Called from another thread, with a sentence for people, when one of the others is lost; must end the
            process, which may be waiting for that one in a collective.
        lost_seconds: Without a sign of life for so long another process is lost.
    """
    if distributed.is_initialized():
        yield Processes(distributed.get_rank(), distributed.get_world_size())
        return
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield SINGLE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    rank, count = distributed.get_rank(), distributed.get_world_size()
    try:
        with Heartbeat(rank, count, lost, lost_seconds=lost_seconds) as heartbeat:
            yield Processes(rank, count, heartbeat)
    finally:
        distributed.destroy_process_group()


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
