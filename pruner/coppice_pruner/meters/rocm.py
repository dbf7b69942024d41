"""AMD's energy counter, through AMD SMI's Python package.

`amdsmi_get_energy_count` gives an accumulator and its resolution in microjoules. The package comes with ROCm
(/opt/rocm/share/amd_smi); the one on PyPI is the same wrapper without `libamd_smi.so`, which ROCm's amd-smi-lib brings.
So it is imported when it is asked for and is no dependency. Some parts (MI100) count wrongly: the cross-check against
the reported power shows it.

Source: AMD SMI Python API reference; ROCm/amdsmi issue 22.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import time
from collections.abc import Callable
from typing import Any

from coppice_api.base import Provenance
from coppice_pruner.meters.base import CounterStuckError, DeviceConditions, MeterUnavailableError
from coppice_pruner.meters.counter import RisingCounter, update_period_seconds
from coppice_pruner.meters.gpu import Gpu

INSTALL_HELP = (
    "the image needs ROCm's amd-smi-lib and its Python package amdsmi (pip install /opt/rocm/share/amd_smi), and the "
    "pod /dev/kfd and /dev/dri"
)


class RocmMeter:
    """The counter of one AMD GPU.

    Args:
        gpu: Where the model runs, by PCI address; None takes the only one.
        clock: Monotonic seconds.

    Raises:
        MeterUnavailableError: If there is no library, no such GPU, or a GPU that does not count.
        CounterStuckError: If the GPU was lost while the counter's period was searched for.
    """

    name = "rocm"
    provenance = Provenance.MEASURED

    def __init__(self, gpu: Gpu | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._smi = _library()
        try:
            self._smi.amdsmi_init()
        except self._smi.AmdSmiException as error:
            raise MeterUnavailableError(f"no AMD driver answers ({_text(error)}); {INSTALL_HELP}") from error
        try:
            self._open(gpu or Gpu(rocm=True))
            self.update_period_seconds = update_period_seconds(self.read_joules, clock)
        except BaseException:
            self.close()
            raise

    def _open(self, gpu: Gpu) -> None:
        smi = self._smi
        try:
            self._handle = self._find(gpu)
            name = smi.amdsmi_get_gpu_asic_info(self._handle)["market_name"]
            self.device = f"{name} ({smi.amdsmi_get_gpu_device_uuid(self._handle)})"
            resolution_microjoules = float(smi.amdsmi_get_energy_count(self._handle)["counter_resolution"])
            self._counter = RisingCounter(
                self._read_units, joules_per_unit=resolution_microjoules * 1e-6, device=self.device
            )
        except smi.AmdSmiException as error:
            raise MeterUnavailableError(
                f"this GPU gives no energy through AMD SMI ({_text(error)}; a guest of a hypervisor has none): choose "
                "another spec.hardware[].nodeSelector, or run on the CPU without the GPU in spec.hardware[].resources "
                "and measurement.minimumProvenance Estimated"
            ) from error

    def read_joules(self) -> float:
        """Return the counter.

        Raises:
            CounterFellError: If it went backwards (the driver was loaded again).
            CounterStuckError: If it cannot be read any more.
        """
        try:
            return self._counter.read_joules()
        except self._smi.AmdSmiException as error:
            raise CounterStuckError(
                f"the energy counter of {self.device} cannot be read any more: {_text(error)}"
            ) from error

    def power_watts(self) -> float:
        """Return the power of the socket now, or its average on parts that give no other.

        Raises:
            MeterUnavailableError: If the GPU tells neither.
        """
        told = self._or_none(lambda: self._smi.amdsmi_get_power_info(self._handle)) or {}
        for key in ("current_socket_power", "average_socket_power", "socket_power"):
            if (watts := _number(told.get(key))) is not None and watts > 0:
                return watts
        raise MeterUnavailableError(f"{self.device} does not tell its power")

    def conditions(self) -> DeviceConditions:
        """Return temperature, clock, power, limits and company; throttling is not known."""
        smi = self._smi
        clock = self._or_none(lambda: smi.amdsmi_get_clock_info(self._handle, smi.AmdSmiClkType.GFX)) or {}
        cap = self._or_none(lambda: smi.amdsmi_get_power_cap_info(self._handle)) or {}
        microwatts = [_number(cap.get(key)) for key in ("power_cap", "default_power_cap")]
        limit, default = (None if value is None else value * 1e-6 for value in microwatts)
        try:
            power = self.power_watts()
        except MeterUnavailableError:
            power = None
        return DeviceConditions(
            temperature_celsius=self._or_none(
                lambda: float(
                    smi.amdsmi_get_temp_metric(
                        self._handle, smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureMetric.CURRENT
                    )
                )
            ),
            clock_mhz=_number(clock.get("clk")),
            power_watts=power,
            power_limit_watts=limit,
            default_power_limit_watts=default,
            other_processes=self._other_processes(),
        )

    def close(self) -> None:
        """Let go of AMD SMI."""
        self._or_none(self._smi.amdsmi_shut_down)

    def _find(self, gpu: Gpu) -> Any:
        handles = self._smi.amdsmi_get_processor_handles()
        addresses = [self._smi.amdsmi_get_gpu_device_bdf(handle).lower() for handle in handles]
        if gpu.pci_address is None and len(handles) == 1:
            return handles[0]
        if gpu.pci_address in addresses:
            return handles[addresses.index(gpu.pci_address)]
        raise MeterUnavailableError(
            f"AMD SMI lists {len(handles)} GPUs, none of which is the model's ({gpu.pci_address or 'address unknown'})"
        )

    def _read_units(self) -> int:
        count = self._smi.amdsmi_get_energy_count(self._handle)
        # It was called "power" before ROCm 6.2.
        return int(count["energy_accumulator"] if "energy_accumulator" in count else count["power"])

    def _other_processes(self) -> int | None:
        processes = self._or_none(lambda: self._smi.amdsmi_get_gpu_process_list(self._handle))
        return None if processes is None else sum(process["pid"] != os.getpid() for process in processes)

    def _or_none(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except self._smi.AmdSmiException:
            return None


def _library() -> Any:
    try:
        # Without libamd_smi.so the package prints to standard output and then fails with a KeyError.
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module("amdsmi")
    except (ImportError, KeyError, OSError, AttributeError) as error:
        raise MeterUnavailableError(
            f"AMD SMI cannot be loaded ({type(error).__name__}: {error}); {INSTALL_HELP}"
        ) from error


def _number(value: Any) -> float | None:
    """Return a number, None for the N/A that the package gives where a part does not tell."""
    return float(value) if isinstance(value, int | float) else None


def _text(error: Exception) -> str:
    return " ".join(str(error).split())
