"""Chooses the meter of a run: the best there is, and never less than was asked for."""

from __future__ import annotations

from collections.abc import Callable

from coppice_api.base import Provenance
from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_pruner.errors import PrunerError
from coppice_pruner.meters.base import Meter, MeterUnavailableError
from coppice_pruner.meters.estimate import open_estimate


class MeasurementImpossibleError(PrunerError):
    """No meter here gives the provenance asked for (exit code 5): another node might."""


def _open_nvml() -> Meter:
    from coppice_pruner.meters.nvml import NvmlMeter

    return NvmlMeter()


def select_meter(
    kind: MeterKind,
    minimum: MinimumProvenance,
    *,
    cuda: bool,
    open_nvml: Callable[[], Meter] = _open_nvml,
    open_cpu: Callable[[], Meter] = open_estimate,
) -> Meter:
    """Return the meter for measurement.meter.

    Args:
        kind: Auto takes NVML when the model runs on a GPU, else the estimate.
        minimum: Measured refuses an estimate.
        cuda: Whether the model runs on a GPU: a GPU's counter says nothing of a model on the CPU, nor the other way.
        open_nvml: Opens the GPU's meter.
        open_cpu: Opens the estimate.

    Raises:
        MeasurementImpossibleError: If none is left; names the field and every reason.
    """
    reasons = []
    if kind in (MeterKind.AUTO, MeterKind.NVML):
        if cuda:
            try:
                return open_nvml()
            except MeterUnavailableError as error:
                reasons.append(f"NVML: {error}")
        else:
            reasons.append("NVML: the model runs on the CPU, since torch finds no GPU here")
    if kind in (MeterKind.AUTO, MeterKind.RAPL):
        reasons.append("RAPL: this version does not read it")
    if kind in (MeterKind.AUTO, MeterKind.ESTIMATE):
        if cuda:
            reasons.append("Estimate: CPU time says nothing of a model that runs on a GPU")
        elif minimum is MinimumProvenance.ESTIMATED:
            meter = open_cpu()
            assert meter.provenance is Provenance.ESTIMATED
            return meter
        else:
            reasons.append("Estimate: measurement.minimumProvenance is Measured; set it to Estimated to accept one")
    raise MeasurementImpossibleError(f"measurement.meter {kind.value} cannot be had here. {'; '.join(reasons)}")
