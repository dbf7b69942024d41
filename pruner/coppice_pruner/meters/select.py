"""Chooses the meter of a run: the best there is, and never less than was asked for."""

from __future__ import annotations

from collections.abc import Callable

from coppice_api.base import Provenance
from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_pruner.errors import PrunerError
from coppice_pruner.meters.base import Meter, MeterUnavailableError
from coppice_pruner.meters.estimate import open_estimate
from coppice_pruner.meters.gpu import Gpu
from coppice_pruner.meters.rapl import open_rapl


class MeasurementImpossibleError(PrunerError):
    """No meter here gives the provenance asked for (exit code 5): another node might.

    Args:
        message: Names the field and every reason.
        offered: What could be had here, were it enough.
    """

    def __init__(self, message: str, offered: Provenance | None = None) -> None:
        super().__init__(message)
        self.offered = offered


def _open_nvml(gpu: Gpu | None) -> Meter:
    from coppice_pruner.meters.nvml import NvmlMeter

    return NvmlMeter(gpu)


def _open_rocm(gpu: Gpu | None) -> Meter:
    from coppice_pruner.meters.rocm import RocmMeter

    return RocmMeter(gpu)


def select_meter(
    kind: MeterKind,
    minimum: MinimumProvenance,
    *,
    cuda: bool,
    gpu: Gpu | None = None,
    open_nvml: Callable[[Gpu | None], Meter] = _open_nvml,
    open_rocm: Callable[[Gpu | None], Meter] = _open_rocm,
    open_rapl: Callable[[], Meter] = open_rapl,
    open_cpu: Callable[[], Meter] = open_estimate,
) -> Meter:
    """Return the meter for measurement.meter.

    Args:
        kind: Auto takes the GPU's counter when the model runs on a GPU; else RAPL, else the estimate.
        minimum: Measured refuses an estimate.
        cuda: Whether the model runs on a GPU: a GPU's counter says nothing of a model on the CPU, nor the other way.
        gpu: Which one, as `gpu_of` gives it; None leaves it to the environment.
        open_nvml: Opens an NVIDIA GPU's meter.
        open_rocm: Opens an AMD GPU's meter.
        open_rapl: Opens that of the CPU's packages.
        open_cpu: Opens the estimate.

    Raises:
        MeasurementImpossibleError: If none is left; names the field and every reason.
    """
    rocm = gpu is not None and gpu.rocm
    choices: tuple[tuple[MeterKind, Callable[[], Meter], str], ...] = (
        (MeterKind.NVML, lambda: open_nvml(gpu), _no_gpu(cuda) or ("the GPU is AMD's: use ROCm" if rocm else "")),
        (
            MeterKind.ROCM, lambda: open_rocm(gpu),
            _no_gpu(cuda) or ("" if rocm else "torch runs the model through CUDA: use NVML"),
        ),
        (MeterKind.RAPL, open_rapl, "the CPU's energy says nothing of a model that runs on a GPU" if cuda else ""),
        (MeterKind.ESTIMATE, open_cpu, _no_estimate(cuda, minimum)),
    )  # fmt: skip
    reasons = []
    for one, open_one, refusal in choices:
        if kind not in (MeterKind.AUTO, one):
            continue
        # Auto on an NVIDIA GPU need not explain why that is no AMD GPU.
        if refusal and not (kind is MeterKind.AUTO and cuda and refusal.endswith(("use ROCm", "use NVML"))):
            reasons.append(f"{one.value}: {refusal}")
        if refusal:
            continue
        try:
            meter = open_one()
        except MeterUnavailableError as error:
            reasons.append(f"{one.value}: {error}")
            continue
        assert (meter.provenance is Provenance.ESTIMATED) <= (minimum is MinimumProvenance.ESTIMATED)
        return meter
    estimate_refused = kind in (MeterKind.AUTO, MeterKind.ESTIMATE) and not cuda
    raise MeasurementImpossibleError(
        f"measurement.meter {kind.value} cannot be had here. {'; '.join(reasons)}",
        Provenance.ESTIMATED if estimate_refused and minimum is MinimumProvenance.MEASURED else None,
    )


def _no_gpu(cuda: bool) -> str:
    return "" if cuda else "the model runs on the CPU, since torch finds no GPU here"


def _no_estimate(cuda: bool, minimum: MinimumProvenance) -> str:
    if cuda:
        return "CPU time says nothing of a model that runs on a GPU"
    if minimum is MinimumProvenance.MEASURED:
        return "measurement.minimumProvenance is Measured; set it to Estimated to accept one"
    return ""
