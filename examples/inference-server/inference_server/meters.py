"""Chooses the energy account of this server; the meters themselves are `coppice_pruner.meters`'."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from inference_server.energy import CpuEnergy, EnergyAccount
from inference_server.settings import MeterChoice, Settings

if TYPE_CHECKING:
    import torch


def open_account(settings: Settings, device: torch.device) -> EnergyAccount:
    """Return what charges this server's inferences."""
    raise NotImplementedError((time, CpuEnergy, MeterChoice))
