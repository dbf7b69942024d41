"""Chooses the energy account of this server; the meters themselves are `coppice_pruner.meters`'."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_pruner.meters import EstimateMeter, MeasurementImpossibleError, gpu_of, select_meter
from inference_server.energy import CpuEnergy, EnergyAccount, GpuEnergy
from inference_server.errors import RefusedError
from inference_server.settings import Settings

if TYPE_CHECKING:
    import torch


def open_account(settings: Settings, device: torch.device) -> EnergyAccount:
    """Return what charges this server's inferences.

    Args:
        settings: METER and TORCH_THREADS count.
        device: Where the model runs.

    Raises:
        RefusedError: If the meter asked for cannot be had.
    """
    cuda, kind = device.type == "cuda", MeterKind(settings.meter.value)
    if kind is MeterKind.AUTO and not cuda:
        # RAPL counts whole sockets: this server's neighbours and its own HTTP side would be charged to the model.
        kind = MeterKind.ESTIMATE
    try:
        meter = select_meter(kind, MinimumProvenance.ESTIMATED, cuda=cuda, gpu=gpu_of(device))
    except MeasurementImpossibleError as error:
        raise RefusedError(f"METER: {error}") from error
    if isinstance(meter, EstimateMeter):
        # One thread's own clock leaves out the HTTP side; helpers of torch are seen by the process' clock alone.
        clock = time.thread_time if settings.torch_threads == 1 else time.process_time
        return CpuEnergy(meter.watts_per_core, clock=clock)
    import torch

    return GpuEnergy(meter.read_joules, lambda: torch.cuda.synchronize(device))
