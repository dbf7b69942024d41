"""NVIDIA's energy counter, through NVML (nvidia-ml-py).

`nvmlDeviceGetTotalEnergyConsumption` counts millijoules since the driver was loaded, on Volta and later, and moves in
steps of 20 to 100 ms. The power reading is a one-second average on most parts and is not used for energy.

Source: NVML API reference, "Device Queries"; arXiv:2312.02741 on what the power reading misses.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import pynvml

from coppice_api.base import Provenance
from coppice_pruner.meters.base import CounterStuckError, DeviceConditions, MeterUnavailableError, MigRefusedError

_PERIOD_SEARCH_SECONDS = 0.6
"""Holds at least five steps of the slowest counter."""
_DEFAULT_PERIOD_SECONDS = 0.1
"""Taken when the counter stood still during the search: the slowest known."""
_HARMFUL = {
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "hardware thermal slowdown",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "software thermal slowdown",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
}
"""Reasons that make a window worthless. A power cap is how the card runs in production, so it stays."""


class NvmlMeter:
    """The counter of one GPU.

    Args:
        index: Among the GPUs this process may see.
        clock: Monotonic seconds.

    Raises:
        MigRefusedError: If the GPU is in MIG mode.
        MeterUnavailableError: If there is no driver, no GPU, or a GPU that does not count.
    """

    name = "nvml"
    provenance = Provenance.MEASURED

    def __init__(self, index: int = 0, *, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise MeterUnavailableError(
                f"no NVIDIA driver answers ({error}); give the pod a GPU (resources.limits nvidia.com/gpu) and a "
                "runtime that mounts the driver"
            ) from error
        try:
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            self.device = f"{_text(pynvml.nvmlDeviceGetName(self._handle))} ({self.uuid})"
            self._refuse_mig()
            self._last_millijoules = self._read_millijoules()
        except pynvml.NVMLError_NotSupported as error:
            self.close()
            raise MeterUnavailableError(
                "this GPU counts no energy (NVML: not supported; Volta and later do): choose another "
                "spec.hardware[].nodeSelector, or measurement.meter Estimate"
            ) from error
        except pynvml.NVMLError as error:
            self.close()
            raise MeterUnavailableError(f"the GPU cannot be read through NVML: {error}") from error
        except MeterUnavailableError:
            self.close()
            raise
        self.update_period_seconds = self._find_period(clock)

    @property
    def uuid(self) -> str:
        """The GPU's UUID: indices change between containers, this does not."""
        return _text(pynvml.nvmlDeviceGetUUID(self._handle))

    def read_joules(self) -> float:
        """Return the counter.

        Raises:
            CounterStuckError: If it went backwards (the driver was loaded again) or cannot be read any more.
        """
        try:
            millijoules = self._read_millijoules()
        except pynvml.NVMLError as error:
            raise CounterStuckError(f"the energy counter of {self.device} cannot be read any more: {error}") from error
        if millijoules < self._last_millijoules:
            raise CounterStuckError(
                f"the energy counter of {self.device} fell from {self._last_millijoules} to {millijoules} mJ: the "
                "driver was loaded again; the run must be repeated"
            )
        self._last_millijoules = millijoules
        return millijoules / 1000.0

    def conditions(self) -> DeviceConditions:
        """Return temperature, clock, power, limit and throttle reasons; None for what the GPU does not tell."""
        reasons = _or_none(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)) or 0
        power = _or_none(lambda: pynvml.nvmlDeviceGetPowerUsage(self._handle))
        limit = _or_none(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(self._handle))
        return DeviceConditions(
            temperature_celsius=_or_none(
                lambda: pynvml.nvmlDeviceGetTemperature(self._handle, pynvml.NVML_TEMPERATURE_GPU)
            ),
            clock_mhz=_or_none(lambda: pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM)),
            power_watts=None if power is None else power / 1000.0,
            power_limit_watts=None if limit is None else limit / 1000.0,
            throttle_reasons=tuple(text for name, text in _HARMFUL.items() if reasons & getattr(pynvml, name)),
        )

    def close(self) -> None:
        """Let go of NVML."""
        _or_none(pynvml.nvmlShutdown)

    def _read_millijoules(self) -> int:
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def _refuse_mig(self) -> None:
        mode = _or_none(lambda: pynvml.nvmlDeviceGetMigMode(self._handle))
        if mode and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE:
            raise MigRefusedError(
                f"{self.device} is in MIG mode, in which NVML counts no energy for an instance: use a whole GPU "
                "(spec.hardware[].nodeSelector nvidia.com/mig.strategy), or measurement.meter Estimate"
            )

    def _find_period(self, clock: Callable[[], float]) -> float:
        """Return the median time between two steps of the counter."""
        steps: list[float] = []
        begin, last = clock(), self._read_millijoules()
        while clock() - begin < _PERIOD_SEARCH_SECONDS:
            now = self._read_millijoules()
            if now != last:
                steps.append(clock())
                last = now
        gaps = [after - before for before, after in itertools.pairwise(steps)]
        self._last_millijoules = last
        return statistics.median(gaps) if gaps else _DEFAULT_PERIOD_SECONDS


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _or_none(read: Callable[[], Any]) -> Any:
    """Return what a GPU tells, None where it does not tell it."""
    try:
        return read()
    except pynvml.NVMLError:
        return None
