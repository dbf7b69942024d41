"""Accuracy of the served model on a small labelled set, again and again.

The probe is real work: each of its batches counts in `coppice_served_inferences_total` and in
`coppice_served_energy_joules_total`, as a request's does. A fleet without traffic therefore still has an
energy per inference, on the same samples in the same batches before and after a rollout. It waits in the
same queue as requests, one batch at a time, so a request never waits for more than one probe batch.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference_server import bundles
from inference_server.errors import RefusedError, RequestError
from inference_server.metrics import Metrics
from inference_server.served_model import ServedModel, Worker
from inference_server.settings import Settings

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeSet:
    """Held-out samples and their classes."""

    inputs: NDArray[np.float32]
    """Shape (N, *input)."""
    labels: NDArray[np.int64]
    """Shape (N,)."""


async def run(settings: Settings, model: ServedModel, worker: Worker, metrics: Metrics) -> None:
    """Evaluate once, then every `probe_seconds`, until cancelled.

    Without usable data there is no accuracy series, and a rollout that asks for one holds.
    """
    if not settings.probe_dataset:
        return
    try:
        # On a thread of its own: the data's imports take a second that requests shall not wait for.
        probe_set = await asyncio.to_thread(_load, settings, model)
    except RefusedError as error:
        LOGGER.warning("no accuracy will be reported: %s", error)
        return
    while True:
        try:
            accuracy_ratio = await evaluate(probe_set, settings.probe_batch, model, worker)
        except RequestError as error:
            LOGGER.warning("probe skipped: %s", error.message)
        else:
            metrics.probed(accuracy_ratio)
        if settings.probe_seconds == 0:
            return
        await asyncio.sleep(settings.probe_seconds)


async def evaluate(probe_set: ProbeSet, batch_size: int, model: ServedModel, worker: Worker) -> float:
    """Return the share of the probe set the model gets right, 0 to 1.

    Raises:
        RequestError: If the worker's queue is full.
    """
    correct = 0
    for begin in range(0, len(probe_set.labels), batch_size):
        batch = probe_set.inputs[begin : begin + batch_size]
        labels = probe_set.labels[begin : begin + batch_size]
        logits = await worker.run(lambda batch=batch: model.infer(batch))  # type: ignore[misc]
        correct += int((logits.argmax(axis=1) == labels).sum())
    return correct / len(probe_set.labels)


def _load(settings: Settings, model: ServedModel) -> ProbeSet:
    inputs, labels = bundles.held_out(settings.probe_dataset, settings.claim_mounts)
    if inputs.shape[1:] != model.input.shape:
        raise RefusedError(
            f"PROBE_DATASET {settings.probe_dataset} has samples of shape {list(inputs.shape[1:])}, "
            f"the model takes {list(model.input.shape)}"
        )
    return ProbeSet(inputs, labels)
