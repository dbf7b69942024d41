"""NVIDIA's energy counter, through NVML (nvidia-ml-py).

`nvmlDeviceGetTotalEnergyConsumption` counts millijoules since the driver was loaded, on Volta and later, and moves in
steps of 20 to 100 ms. Power readings are used for the cross-check alone: `nvmlDeviceGetPowerUsage` is a one-second
average on Ampere and later, field 186 is the instant value, and on A100 and H100 the sensor behind both looks at about
a quarter of the time.

Source: NVML API reference, "Device Queries" and "Field Value Queries"; Yang et al. 2023, arXiv:2312.02741.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import pynvml

from coppice_api.base import Provenance
from coppice_pruner.meters.base import CounterStuckError, DeviceConditions, MeterUnavailableError, MigRefusedError
from coppice_pruner.meters.counter import RisingCounter, update_period_seconds
from coppice_pruner.meters.gpu import MIG_HELP, Gpu, visible_uuid

_HARMFUL = {
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "hardware thermal slowdown",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "software thermal slowdown",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
}
"""Reasons that make a window worthless. A power cap is how the card runs in production, so it stays."""
_VALUE_FIELDS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of nvmlValue_t by nvmlValueType_t."""


class NvmlMeter:
    """The counter of one GPU.

    Args:
        gpu: Where the model runs; None works it out from the environment.
        clock: Monotonic seconds.
        environ: CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER count where the GPU's UUID is not known.

    Raises:
        MigRefusedError: If the GPU is in MIG mode, or an instance of one that is.
        MeterUnavailableError: If there is no driver, no GPU, or a GPU that does not count.
        CounterStuckError: If the GPU was lost, or its driver loaded again, while the counter's period was searched for.
    """

    name = "nvml"
    provenance = Provenance.MEASURED

    def __init__(
        self,
        gpu: Gpu | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise MeterUnavailableError(
                f"no NVIDIA driver answers ({error}); give the pod a GPU (resources.limits nvidia.com/gpu) and a "
                "runtime that mounts the driver"
            ) from error
        try:
            self._open(gpu or Gpu(), environ)
            self.update_period_seconds = update_period_seconds(self.read_joules, clock)
        except BaseException:
            self.close()
            raise

    def _open(self, gpu: Gpu, environ: Mapping[str, str]) -> None:
        try:
            self._handle = _handle_of(gpu, environ)
            self.device = f"{_text(pynvml.nvmlDeviceGetName(self._handle))} ({self.uuid})"
            self._refuse_mig()
            self._counter = RisingCounter(self._read_millijoules, joules_per_unit=1e-3, device=self.device)
        except pynvml.NVMLError_NotSupported as error:
            raise MeterUnavailableError(
                "this GPU counts no energy (NVML: not supported; Volta and later do): choose another "
                "spec.hardware[].nodeSelector, or leave nvidia.com/gpu out of spec.hardware[].resources and set "
                "measurement.minimumProvenance to Estimated, to run and estimate on the CPU"
            ) from error
        except pynvml.NVMLError as error:
            raise MeterUnavailableError(f"the GPU cannot be read through NVML: {error}") from error

    @property
    def uuid(self) -> str:
        """The GPU's UUID: indices change between containers, this does not."""
        return _text(pynvml.nvmlDeviceGetUUID(self._handle))

    def read_joules(self) -> float:
        """Return the counter.

        Raises:
            CounterFellError: If it went backwards (the driver was loaded again).
            CounterStuckError: If it cannot be read any more.
        """
        try:
            return self._counter.read_joules()
        except pynvml.NVMLError as error:
            raise CounterStuckError(f"the energy counter of {self.device} cannot be read any more: {error}") from error

    def power_watts(self) -> float:
        """Return the power now: field 186, else the average that `nvmlDeviceGetPowerUsage` gives.

        Raises:
            MeterUnavailableError: If the GPU tells neither.
        """
        milliwatts = self._field(pynvml.NVML_FI_DEV_POWER_INSTANT)
        if milliwatts is None:
            milliwatts = _or_none(lambda: pynvml.nvmlDeviceGetPowerUsage(self._handle))
        if milliwatts is None:
            raise MeterUnavailableError(f"{self.device} does not tell its power")
        return float(milliwatts) / 1000.0

    def conditions(self) -> DeviceConditions:
        """Return temperature, clock, power, limits, throttling and company; None for what the GPU does not tell."""
        reasons = _or_none(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))
        try:
            power = self.power_watts()
        except MeterUnavailableError:
            power = None
        return DeviceConditions(
            temperature_celsius=_or_none(
                lambda: pynvml.nvmlDeviceGetTemperature(self._handle, pynvml.NVML_TEMPERATURE_GPU)
            ),
            clock_mhz=_or_none(lambda: pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM)),
            power_watts=power,
            power_limit_watts=_watts(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(self._handle)),
            default_power_limit_watts=_watts(lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(self._handle)),
            power_capped=None if reasons is None else bool(reasons & pynvml.nvmlClocksThrottleReasonSwPowerCap),
            throttle_reasons=None
            if reasons is None
            else tuple(text for name, text in _HARMFUL.items() if reasons & getattr(pynvml, name)),
            other_processes=self._other_processes(),
        )

    def close(self) -> None:
        """Let go of NVML."""
        _or_none(pynvml.nvmlShutdown)

    def _read_millijoules(self) -> int:
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def _field(self, number: int) -> Any:
        """Return one field value, None where the GPU or its driver does not know the field."""
        values = _or_none(lambda: pynvml.nvmlDeviceGetFieldValues(self._handle, [number]))
        if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
            return None
        kind = int(values[0].valueType)
        return getattr(values[0].value, _VALUE_FIELDS[kind]) if kind < len(_VALUE_FIELDS) else None

    def _other_processes(self) -> int | None:
        processes = _or_none(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle))
        if processes is None:
            return None
        pids = [process.pid for process in processes]
        # A container that has its own process numbers does not find its own among the host's: one of them is this one.
        return sum(pid != os.getpid() for pid in pids) if os.getpid() in pids else max(0, len(pids) - 1)

    def _refuse_mig(self) -> None:
        mode = _or_none(lambda: pynvml.nvmlDeviceGetMigMode(self._handle))
        instance = _or_none(lambda: pynvml.nvmlDeviceIsMigDeviceHandle(self._handle))
        if instance or (mode and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE):
            raise MigRefusedError(f"{self.device} is cut into MIG instances; {MIG_HELP}")


def _handle_of(gpu: Gpu, environ: Mapping[str, str]) -> Any:
    """Return NVML's handle of a GPU, by its UUID."""
    if gpu.uuid is None:
        uuids = [
            _text(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index)))
            for index in range(pynvml.nvmlDeviceGetCount())
        ]
        return pynvml.nvmlDeviceGetHandleByUUID(visible_uuid(uuids, environ, gpu.position))
    bare = gpu.uuid.removeprefix("GPU-").removeprefix("MIG-")
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{bare}")
    except pynvml.NVMLError_NotFound:
        # CUDA gives an instance its own UUID.
        return pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{bare}")


def _watts(read: Callable[[], Any]) -> float | None:
    milliwatts = _or_none(read)
    return None if milliwatts is None else milliwatts / 1000.0


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _or_none(read: Callable[[], Any]) -> Any:
    """Return what a GPU tells, None where it does not tell it."""
    try:
        return read()
    except pynvml.NVMLError:
        return None
