"""What is measured: one model answering one batch, as it would when deployed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Workload:
    """A batch of inferences that can be repeated."""

    run: Callable[[], object]
    """Queues or does one batch."""
    batch_size: int
    """Inferences in it."""
    synchronize: Callable[[], None] = lambda: None
    """Waits until the device has done what was queued."""


def model_workload(model: nn.Module, inputs: tuple[Tensor, ...]) -> Workload:
    """Return the inference of one batch.

    Args:
        model: Put into eval mode.
        inputs: Real samples on the model's device, shapes (N, ...).
    """
    return answer_workload(model.eval(), inputs)


def answer_workload(answer: Callable[..., object], inputs: tuple[Tensor, ...]) -> Workload:
    """Return the inference of one batch by whatever answers it.

    Args:
        answer: Takes the inputs.
        inputs: As for `model_workload`.
    """

    def run() -> object:
        with torch.inference_mode():
            return answer(*inputs)

    return Workload(run, int(inputs[0].shape[0]), synchronize_of(inputs[0].device))


def synchronize_of(device: torch.device) -> Callable[[], None]:
    """Return what waits for a device; nothing has to be waited for on a CPU."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Infer with one thread, as the fleet's servers do.

    CPU time counts the threads that spin while they wait for each other: with more than one, a model too small to share
    would be charged for waiting.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
