"""The energy counter of a real GPU: that it counts, in which steps, and that it agrees with the power sensor."""

from __future__ import annotations

import time

import pytest
import torch

from coppice_api.base import Provenance
from coppice_pruner.measurement import Workload, cross_check, idle_power_watts, take_reading
from coppice_pruner.measurement.workload import synchronize_of
from coppice_pruner.meters import gpu_of
from coppice_pruner.meters.nvml import NvmlMeter

WINDOW_SECONDS = 1.0


def products(device: torch.device) -> Workload:
    """Return work that keeps every multiprocessor busy: some milliseconds of matrix products a batch."""
    left = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)

    def run() -> None:
        for _ in range(4):
            left @ left

    return Workload(run, 1, synchronize_of(device))


def test_the_counter_is_that_of_the_gpu_on_which_torch_runs(meter: NvmlMeter, device: torch.device) -> None:
    gpu = gpu_of(device)
    assert gpu is not None
    assert gpu.uuid is not None
    assert meter.uuid == f"GPU-{gpu.uuid}"
    assert torch.cuda.get_device_name(device) in meter.device
    assert meter.provenance is Provenance.MEASURED


def test_the_counter_moves_in_steps_that_are_found(meter: NvmlMeter) -> None:
    assert 0.005 <= meter.update_period_seconds <= 0.2
    first, begin = meter.read_joules(), time.monotonic()
    while (now := meter.read_joules()) == first:
        assert time.monotonic() - begin < 2.0, "the counter stands still"
    assert now > first


def test_the_gpu_tells_the_conditions_under_which_it_is_measured(meter: NvmlMeter) -> None:
    found = meter.conditions()
    assert found.temperature_celsius is not None
    assert 5 < found.temperature_celsius < 110
    assert found.clock_mhz
    assert found.power_watts
    assert found.power_limit_watts
    assert found.default_power_limit_watts
    assert found.throttle_reasons is not None
    assert found.other_processes is not None


def test_work_draws_more_than_idling_and_never_more_than_the_limit_allows(
    meter: NvmlMeter, device: torch.device
) -> None:
    torch.zeros(1, device=device)
    idle_watts = idle_power_watts(meter, window_seconds=WINDOW_SECONDS)
    reading = take_reading(products(device), meter, window_seconds=WINDOW_SECONDS)
    limit_watts = meter.conditions().power_limit_watts
    assert idle_watts
    assert limit_watts
    assert 1.5 * idle_watts < reading.power_watts < 1.2 * limit_watts
    assert reading.provenance is Provenance.MEASURED


def test_the_counter_agrees_with_the_power_sensor_while_work_is_steady(meter: NvmlMeter, device: torch.device) -> None:
    found = cross_check(products(device), meter, window_seconds=3 * WINDOW_SECONDS)
    assert found is not None
    assert found.agrees, f"{found.ratio:.3f} times {found.source}"


def test_twice_the_work_takes_twice_the_energy(meter: NvmlMeter, device: torch.device) -> None:
    once = products(device)

    def run() -> None:
        once.run()
        once.run()

    twice = Workload(run, 1, once.synchronize)
    readings = [take_reading(work, meter, window_seconds=WINDOW_SECONDS) for work in (once, twice, once)]
    mean = (readings[0].energy_joules + readings[2].energy_joules) / 2
    assert readings[1].energy_joules / mean == pytest.approx(2.0, rel=0.1)
