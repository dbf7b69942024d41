"""Chooses the energy account of this server; the meters themselves are `coppice_pruner.meters`'."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_pruner.meters import EstimateMeter, MeasurementImpossibleError, select_meter
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
    try:
        meter = select_meter(MeterKind(settings.meter.value), MinimumProvenance.ESTIMATED, cuda=device.type == "cuda")
    except MeasurementImpossibleError as error:
        raise RefusedError(f"METER: {error}") from error
    if isinstance(meter, EstimateMeter):
        # One thread's own clock leaves out the HTTP side; helpers of torch are seen by the process' clock alone.
        clock = time.thread_time if settings.torch_threads == 1 else time.process_time
        return CpuEnergy(meter.watts_per_core, clock=clock)
    import torch

    return GpuEnergy(meter.read_joules, lambda: torch.cuda.synchronize(device))
