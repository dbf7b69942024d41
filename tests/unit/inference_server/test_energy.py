"""Joules: CPU time x watts, and GPU seconds x the watts its counter gave."""

from __future__ import annotations

import pytest
from inference_server.energy import CpuEnergy, GpuEnergy
from inference_server.errors import RefusedError


class Device:
    """A GPU that idles at 50 W, works at 300 W, and whose counter ticks every 100 ms."""

    def __init__(self, tick_seconds: float = 0.1) -> None:
        self.now_seconds = 0.0
        self.joules = 0.0
        self._shown = 0.0
        self._tick_seconds = tick_seconds
        self._next_tick = tick_seconds

    def pass_time(self, seconds: float, watts: float) -> None:
        end = self.now_seconds + seconds
        while self._next_tick <= end:
            self.joules += (self._next_tick - self.now_seconds) * watts
            self.now_seconds = self._next_tick
            self._shown = self.joules
            self._next_tick += self._tick_seconds
        self.joules += (end - self.now_seconds) * watts
        self.now_seconds = end

    def compute(self) -> str:
        self.pass_time(0.004, 300)
        return "logits"

    def account(self) -> GpuEnergy:
        return GpuEnergy(lambda: self._shown, lambda: None, clock=lambda: self.now_seconds, window_seconds=2.0)


def test_cpu_energy_is_cpu_time_times_watts() -> None:
    ticks = iter([10.0, 10.25])
    assert CpuEnergy(8.0, clock=lambda: next(ticks)).charge(lambda: "logits") == ("logits", 2.0)


def test_cpu_energy_does_not_charge_waiting() -> None:
    import time

    _, energy_joules = CpuEnergy(8.0).charge(lambda: time.sleep(0.05))
    assert energy_joules < 8.0 * 0.02


def test_gpu_energy_charges_work_at_the_watts_of_work() -> None:
    device = Device()
    device.pass_time(0.03, 50)
    account = device.account()
    account.calibrate(device.compute)
    device.pass_time(60.0, 50)
    result, energy_joules = account.charge(device.compute)
    assert result == "logits"
    # One inference is 4 ms at 300 W, far shorter than a tick; idling before it costs nothing.
    assert energy_joules == pytest.approx(1.2, rel=0.02)


def test_a_counter_that_stands_still_is_refused() -> None:
    device = Device(tick_seconds=1e9)
    with pytest.raises(RefusedError, match="energy counter stood still for 2 s"):
        device.account().calibrate(device.compute)


def test_an_uncalibrated_gpu_charges_nothing_by_mistake() -> None:
    with pytest.raises(RuntimeError, match=r"before GpuEnergy\.calibrate"):
        Device().account().charge(lambda: None)
