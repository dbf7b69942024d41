"""AMD's counter through a stand-in module named as the real one: no AMD GPU and no ROCm was at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from enum import IntEnum
from types import ModuleType
from typing import Any

import pytest

from coppice_api.base import Provenance
from coppice_pruner.meters import CounterFellError, CounterStuckError, Gpu, MeterUnavailableError
from coppice_pruner.meters.rocm import RocmMeter

RESOLUTION_MICROJOULES = 15.259
ADDRESSES = ("0000:03:00.0", "0000:83:00.0")


class StandIn(ModuleType):
    """`amdsmi` as far as a meter calls it: names, keys and values as its Python API reference gives them."""

    class AmdSmiException(Exception):  # noqa: N818 - the library's own name
        """Base of the library's."""

    class AmdSmiTemperatureType(IntEnum):
        HOTSPOT = 1

    class AmdSmiTemperatureMetric(IntEnum):
        CURRENT = 0

    class AmdSmiClkType(IntEnum):
        GFX = 0

    def __init__(self) -> None:
        super().__init__("amdsmi")
        self.units = {handle: 1_000_000 * (place + 1) for place, handle in enumerate(ADDRESSES)}
        self.key = "energy_accumulator"
        self.failing: set[str] = set()
        self.open = 0

    def _answer(self, name: str, value: Any) -> Any:
        if name in self.failing or "all" in self.failing:
            raise self.AmdSmiException(f"Error code:\n\t2 | {name} not supported")
        return value

    def amdsmi_init(self) -> None:
        self._answer("init", None)
        self.open += 1

    def amdsmi_shut_down(self) -> None:
        self.open -= 1

    def amdsmi_get_processor_handles(self) -> list[str]:
        return list(ADDRESSES)

    def amdsmi_get_gpu_device_bdf(self, handle: str) -> str:
        return handle.upper()

    def amdsmi_get_gpu_device_uuid(self, handle: str) -> str:
        return f"{handle[5:7]}ff74a0-0000-1000-8000-000000000000"

    def amdsmi_get_gpu_asic_info(self, handle: str) -> dict[str, Any]:
        return {"market_name": "AMD Instinct MI300X"}

    def amdsmi_get_energy_count(self, handle: str) -> dict[str, Any]:
        self.units[handle] += 1000
        found = {self.key: self.units[handle], "counter_resolution": RESOLUTION_MICROJOULES, "timestamp": 1}
        return self._answer("energy", found)  # type: ignore[no-any-return]

    def amdsmi_get_power_info(self, handle: str) -> dict[str, Any]:
        told = {"current_socket_power": "N/A", "average_socket_power": 512, "power_limit": 750}
        return self._answer("power", told)  # type: ignore[no-any-return]

    def amdsmi_get_power_cap_info(self, handle: str) -> dict[str, Any]:
        return self._answer("cap", {"power_cap": 600_000_000, "default_power_cap": 750_000_000})  # type: ignore[no-any-return]

    def amdsmi_get_clock_info(self, handle: str, kind: IntEnum) -> dict[str, Any]:
        return self._answer("clock", {"clk": 2100})  # type: ignore[no-any-return]

    def amdsmi_get_temp_metric(self, handle: str, kind: IntEnum, metric: IntEnum) -> int:
        return self._answer("temperature", 57)  # type: ignore[no-any-return]

    def amdsmi_get_gpu_process_list(self, handle: str) -> list[dict[str, Any]]:
        return self._answer("processes", [{"pid": os.getpid()}, {"pid": 1}])  # type: ignore[no-any-return]


@pytest.fixture
def amdsmi(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "amdsmi", stand_in)
    return stand_in


def clock() -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += 0.01


def open_meter(address: str = ADDRESSES[1]) -> RocmMeter:
    ticks = clock()
    return RocmMeter(Gpu(pci_address=address, rocm=True), clock=lambda: next(ticks))


@pytest.mark.parametrize("key", ["energy_accumulator", "power"], ids=["ROCm 6.2 and later", "before"])
def test_joules_of_the_stand_in_are_units_times_its_resolution(amdsmi: StandIn, key: str) -> None:
    amdsmi.key = key
    meter = open_meter()
    before, units = meter.read_joules(), amdsmi.units[ADDRESSES[1]]
    amdsmi.units[ADDRESSES[1]] += 2_000_000
    after = meter.read_joules()
    assert after - before == pytest.approx((amdsmi.units[ADDRESSES[1]] - units) * RESOLUTION_MICROJOULES * 1e-6)
    assert meter.provenance is Provenance.MEASURED
    assert meter.device == "AMD Instinct MI300X (83ff74a0-0000-1000-8000-000000000000)"
    meter.close()
    assert amdsmi.open == 0


def test_the_stand_in_is_found_by_its_address_and_no_other_will_do(amdsmi: StandIn) -> None:
    assert open_meter(ADDRESSES[0]).device.endswith("(03ff74a0-0000-1000-8000-000000000000)")
    with pytest.raises(MeterUnavailableError, match=r"2 GPUs, none of which is the model's \(0000:ff:00\.0\)"):
        open_meter("0000:ff:00.0")


def test_the_stand_in_says_how_the_device_is(amdsmi: StandIn) -> None:
    found = open_meter().conditions()
    assert (found.temperature_celsius, found.clock_mhz, found.power_watts) == (57.0, 2100.0, 512.0)
    assert (found.power_limit_watts, found.default_power_limit_watts) == (pytest.approx(600.0), pytest.approx(750.0))
    assert found.other_processes == 1
    assert found.throttle_reasons is None
    amdsmi.failing = {"power", "cap", "clock", "temperature", "processes"}
    assert open_meter().conditions() == type(found)()


@pytest.mark.parametrize(
    ("failing", "want"), [("init", "no AMD driver answers .*amd-smi-lib"), ("energy", "guest of a hypervisor has none")]
)
def test_a_stand_in_that_does_not_count_is_refused_with_what_to_do(amdsmi: StandIn, failing: str, want: str) -> None:
    amdsmi.failing = {failing}
    with pytest.raises(MeterUnavailableError, match=want):
        open_meter()
    assert amdsmi.open == 0


def test_a_stand_in_that_is_lost_or_starts_again_is_no_energy(amdsmi: StandIn) -> None:
    meter = open_meter()
    amdsmi.units[ADDRESSES[1]] = 0
    with pytest.raises(CounterFellError, match="its driver was loaded again"):
        meter.read_joules()
    amdsmi.failing = {"all"}
    with pytest.raises(CounterStuckError, match=r"cannot be read any more: Error code: 2 \| energy not supported"):
        meter.read_joules()


class Missing:
    """Finds `amdsmi` and fails as the package of PyPI does without ROCm's library."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "amdsmi":
            print("libamd_smi.so: cannot open shared object file")
            raise KeyError("libamd_smi.so")


def test_the_package_without_rocms_library_is_told_and_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(MeterUnavailableError, match=r"AMD SMI cannot be loaded \(KeyError.*amd-smi-lib"):
        RocmMeter()
    assert capsys.readouterr().out == ""
