"""Which windows count, what is measured beside them, and what a person is told of it."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coppice_api.base import Provenance
from coppice_pruner.errors import MeasurementFailedError
from coppice_pruner.measurement import (
    Comparison,
    MeterCheck,
    Reading,
    circumstances_of,
    compare,
    cross_check,
    idle_power_watts,
    many_short,
    take_reading,
    warnings_of,
)
from coppice_pruner.measurement.comparison import of_readings
from coppice_pruner.meters import (
    CounterFellError,
    CounterStuckError,
    DeviceConditions,
    MeterUnavailableError,
    RaplMeter,
    Second,
)
from tests.unit.measurement.devices import Device

FINE = DeviceConditions(throttle_reasons=(), temperature_celsius=50.0, clock_mhz=1400.0, other_processes=0)


def like(**changes: object) -> DeviceConditions:
    return dataclasses.replace(FINE, **changes)  # type: ignore[arg-type]


def both_ends(*windows: DeviceConditions) -> Iterator[DeviceConditions]:
    return iter([condition for window in windows for condition in (window, window)])


def comparison(device: Device, pairs: int = 2) -> Comparison:
    return compare(
        device.workload(0.01), device.workload(0.005), device, pairs=pairs, window_seconds=0.1, clock=device.clock
    )


def test_a_short_window_is_not_outlasted_by_its_warm_up() -> None:
    for window_seconds, spent_seconds in ((0.1, 0.13), (1.0, 1.09)):
        device = Device()
        take_reading(device.workload(0.03), device, window_seconds=window_seconds, clock=device.clock)
        # A run or three, then whole runs until the window is over.
        assert device.seconds == pytest.approx(spent_seconds, abs=0.03)


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({"temperature_celsius": 56.0}, "temperature drifted by more than 5 °C within a pair"),
        ({"clock_mhz": 1320.0}, "clock drifted by more than 5% within a pair"),
        ({"other_processes": 1}, "another process came to the device or left it within a pair"),
    ],
    ids=["temperature", "clock", "company"],
)
def test_a_pair_that_met_two_devices_is_taken_again_and_both_windows_counted(
    change: dict[str, object], want: str
) -> None:
    device = Device()
    device.told = both_ends(FINE, like(**change), FINE, FINE, FINE, FINE)
    found = comparison(device)
    assert found.rejected == (want, want)
    assert found.doubts == ()
    assert len(found.dense) == len(found.pruned) == 2
    assert circumstances_of(found).rejected == {want: 2}


@pytest.mark.parametrize(
    "change",
    [
        {"temperature_celsius": 54.9},
        {"clock_mhz": 1340.0},
        {"temperature_celsius": None, "clock_mhz": None, "other_processes": None},
    ],
    ids=["a little warmer", "one step slower", "not told"],
)
def test_a_pair_within_the_bounds_counts(change: dict[str, object]) -> None:
    device = Device()
    device.told = both_ends(FINE, like(**change), FINE, FINE)
    assert comparison(device).rejected == ()


def test_what_drifts_every_time_is_kept_and_said() -> None:
    # The pruned model runs at a higher clock under the same power cap: no accident, so no reason to wait for ever.
    device = Device()
    slow = like(clock_mhz=1000.0)
    device.told = both_ends(FINE, slow, FINE, slow, FINE, slow, slow, FINE, FINE, FINE)
    found = comparison(device)
    why = "clock drifted by more than 5% within a pair"
    assert found.rejected == (why,) * 4
    assert found.doubts == (why, why)
    assert warnings_of(device, circumstances_of(found), None) == (f"in 2 of 2 pairs {why}",)


def test_a_window_in_which_the_counter_fell_is_taken_again() -> None:
    device = Device()
    device.failures = [None, CounterFellError("it fell")]
    found = take_reading(device.workload(0.01), device, window_seconds=0.1, clock=device.clock)
    assert found.rejected == ("the counter fell",)
    assert found.power_watts == pytest.approx(10.0)
    device.failures = [CounterFellError("the energy counter of a stand-in fell")] * 3
    with pytest.raises(MeasurementFailedError, match="the energy counter of a stand-in fell"):
        take_reading(device.workload(0.01), device, window_seconds=0.1, clock=device.clock)


def test_a_counter_that_is_gone_is_not_tried_again() -> None:
    device = Device()
    device.failures = [CounterStuckError("gone"), None]
    with pytest.raises(CounterStuckError, match="gone"):
        take_reading(device.workload(0.01), device, window_seconds=0.1, clock=device.clock)


@pytest.mark.parametrize("at_begin", [True, False], ids=["at its beginning", "at its end"])
def test_a_window_throttled_at_either_end_is_rejected_with_its_reason(at_begin: bool) -> None:
    device = Device()
    hot = like(throttle_reasons=("hardware slowdown",))
    device.told = iter([hot, FINE] if at_begin else [FINE, hot])
    found = take_reading(device.workload(0.01), device, window_seconds=0.1, clock=device.clock)
    assert found.rejected == ("throttled: hardware slowdown",)


def test_work_of_others_is_told_in_cores() -> None:
    device = Device()
    begin_seconds = 40.0

    def told() -> Iterator[DeviceConditions]:
        yield DeviceConditions(foreign_cpu_seconds=begin_seconds)
        yield DeviceConditions(foreign_cpu_seconds=begin_seconds + 0.25)

    device.told = told()
    found = take_reading(device.workload(0.01), device, window_seconds=0.1, clock=device.clock)
    assert found.foreign_cores == pytest.approx(0.25 / found.seconds)


@pytest.mark.parametrize("tick", [0.0, 0.02])
def test_idle_power_is_that_of_a_window_without_work(tick: float) -> None:
    device = Device(tick=tick, watts=100.0)
    found = idle_power_watts(device, window_seconds=1.0, clock=device.clock, sleep=device.sleep)
    assert found == pytest.approx(10.0, rel=0.01)
    assert device.seconds >= 1.0


def test_an_estimate_does_not_know_its_idle_power_and_does_not_wait_for_it() -> None:
    device = Device()
    device.provenance = Provenance.ESTIMATED
    assert idle_power_watts(device, window_seconds=1.0, clock=device.clock, sleep=device.sleep) is None
    assert device.seconds == 0.0


def test_idle_power_of_a_counter_that_falls_or_stands_still() -> None:
    device = Device(watts=100.0)
    device.failures = [None, CounterFellError("it fell")]
    found = idle_power_watts(device, window_seconds=1.0, clock=device.clock, sleep=device.sleep)
    assert found == pytest.approx(10.0)
    still = Device(tick=0.02, watts=0.0)
    assert idle_power_watts(still, window_seconds=1.0, clock=still.clock, sleep=still.sleep) is None


class Other:
    """A second counter, of the same device or another."""

    def __init__(self, read: Callable[[], float]) -> None:
        self.read_joules = read


def check(device: Device, read: Callable[[], float], *, idle: float | None = None, active_only: bool = False) -> object:
    second = Second(contextlib.nullcontext(Other(read)), "the second", active_only=active_only)
    return cross_check(
        device.workload(0.01), device,
        window_seconds=1.0, idle_watts=idle, second_of=lambda _meter: second, clock=device.clock,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "agrees"), [(1.0, True), (0.6, True), (0.51, True), (0.4, False), (1.9, True), (2.2, False)]
)
def test_two_meters_are_read_over_one_window_and_their_ratio_recorded(factor: float, agrees: bool) -> None:
    device = Device()
    found = check(device, lambda: device.joules / factor)
    assert isinstance(found, MeterCheck)
    assert found.ratio == pytest.approx(factor)
    assert found.agrees is agrees


def test_what_the_device_draws_anyway_is_taken_off_where_the_second_meter_leaves_it_out() -> None:
    # 10 W, of which 4 W without work; the second sees the other 6 W.
    device = Device()
    found = check(device, lambda: device.joules * 0.6, idle=4.0, active_only=True)
    assert isinstance(found, MeterCheck)
    assert found.ratio == pytest.approx(1.0)
    assert check(device, lambda: device.joules, active_only=True) is None


def test_a_check_that_fails_decides_nothing() -> None:
    device = Device()

    def gone() -> float:
        raise MeterUnavailableError("gone")

    assert check(device, gone) is None
    assert check(device, lambda: 3.0) is None
    assert cross_check(device.workload(0.01), device, window_seconds=1.0, clock=device.clock) is None


def reading(conditions: DeviceConditions, foreign_cores: float | None = None) -> Reading:
    return Reading(1.0, 10.0, 0.01, 10, 1.0, Provenance.MEASURED, conditions, foreign_cores)


def test_circumstances_are_the_range_over_all_windows() -> None:
    hot = like(temperature_celsius=54.0, power_limit_watts=180.0, default_power_limit_watts=250.0, power_capped=True)
    cool = like(power_limit_watts=180.0, default_power_limit_watts=250.0, power_capped=False, other_processes=2)
    seen = circumstances_of(of_readings([reading(hot, 0.5), reading(cool)], [reading(cool, 1.5), reading(cool)]))
    assert seen.temperature_celsius == (50.0, 54.0)
    assert seen.clock_mhz == (1400.0, 1400.0)
    assert (seen.power_limit_watts, seen.default_power_limit_watts, seen.power_limited) == (180.0, 250.0, True)
    assert (seen.capped_windows, seen.windows) == (1, 4)
    assert seen.other_processes == 2
    assert seen.foreign_cores == 1.0
    assert seen.throttling_known


def test_one_window_that_could_not_be_asked_makes_throttling_unknown() -> None:
    unknown = like(throttle_reasons=None)
    seen = circumstances_of(of_readings([reading(FINE)], [reading(unknown)]))
    assert not seen.throttling_known
    nothing = circumstances_of(of_readings([reading(DeviceConditions())], [reading(DeviceConditions())]))
    assert nothing.temperature_celsius is None
    assert (nothing.capped_windows, nothing.other_processes, nothing.foreign_cores) == (None, None, None)


def test_meters_that_disagree_and_company_on_the_gpu_are_warned_of() -> None:
    seen = circumstances_of(of_readings([reading(like(other_processes=1))], [reading(FINE)]))
    disagreement, company = warnings_of(Device(), seen, MeterCheck(3.14159, "its power readings"))
    assert "counted 3.14 times what its power readings gives" in disagreement
    assert "shared with 1 other process," in company
    alone = circumstances_of(of_readings([reading(FINE)], [reading(FINE)]))
    assert warnings_of(Device(), alone, MeterCheck(1.2, "its power readings")) == ()


def test_others_on_a_socket_that_is_counted_whole_are_warned_of(tmp_path: Path) -> None:
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    for name, text in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "262143328850")):
        (package / name).write_text(text)
    meter = RaplMeter(tmp_path)
    meter.close()
    busy = circumstances_of(of_readings([reading(FINE, 2.0)], [reading(FINE, 1.0)]))
    assert "kept 1.5 cores busy" in warnings_of(meter, busy, None)[0]
    # An estimate charges this process alone.
    assert warnings_of(Device(), busy, None) == ()
    quiet = circumstances_of(of_readings([reading(FINE, 0.05)], [reading(FINE, 0.02)]))
    assert warnings_of(meter, quiet, None) == ()


@pytest.mark.parametrize(
    ("tick", "want"),
    [(0.0, (12, 0.5)), (0.001, (12, 0.5)), (0.02, (12, 0.5)), (0.1, (4, 1.5)), (0.2, (3, 3.0))],
)
def test_a_quick_comparison_is_split_as_far_as_the_counter_allows(tick: float, want: tuple[int, float]) -> None:
    assert many_short(Device(tick=tick), pairs=3, window_seconds=2.0) == pytest.approx(want)


def test_many_short_pairs_are_less_noisy_where_disturbances_last_longer_than_they() -> None:
    """A neighbour comes and goes for half a second at a time and makes everything cost half as much again."""

    def spread(pairs: int, window_seconds: float) -> float:
        found = []
        for seed in range(24):
            device, draw = Device(), random.Random(seed)
            state = {"until": 0.0, "cost": 1.0}

            def cost(device: Device = device, draw: random.Random = draw, state: dict[str, float] = state) -> float:
                if device.seconds >= state["until"]:
                    state.update(until=device.seconds + draw.expovariate(1 / 0.5), cost=draw.choice((1.0, 1.5)))
                return state["cost"]

            dense, pruned = device.workload(0.01, noise=cost), device.workload(0.006, noise=cost)
            result = compare(dense, pruned, device, pairs=pairs, window_seconds=window_seconds, clock=device.clock)
            found.append(result.energy_reduction_ratio)
        return max(found) - min(found)

    assert spread(12, 0.1) < spread(3, 0.4)
