"""Windows, comparisons and the paper's metrics."""

from __future__ import annotations

import random

import pytest

from coppice_api.base import Provenance
from coppice_api.run import ModelFigures
from coppice_pruner.errors import MeasurementFailedError
from coppice_pruner.measurement import MixedProvenanceError, Reading, Workload, compare, paper_metrics, take_reading
from coppice_pruner.measurement.comparison import average, of_readings
from tests.unit.measurement.devices import Device


def test_a_reading_is_joules_and_seconds_of_one_inference() -> None:
    device = Device()
    reading = take_reading(device.workload(0.01), device, window_seconds=1.0, clock=device.clock)
    assert reading.energy_joules == pytest.approx(0.01 * 10.0 / 4)
    assert reading.power_watts == pytest.approx(10.0)
    assert reading.latency_seconds == pytest.approx(0.01)
    assert reading.seconds >= 1.0
    assert reading.provenance is Provenance.SIMULATED


@pytest.mark.parametrize("tick", [0.02, 0.1])
def test_windows_begin_and_end_on_a_tick_of_the_counter(tick: float) -> None:
    device = Device(tick=tick)
    reading = take_reading(device.workload(0.003), device, window_seconds=0.5, clock=device.clock)
    # Fifty ticks at least, whatever was asked for, and no more than a batch beside the tick at either end.
    assert reading.seconds >= 50 * tick - 0.01
    assert reading.power_watts == pytest.approx(10.0, rel=2 * 0.003 / (50 * tick))


def test_a_counter_that_stands_still_is_named() -> None:
    device = Device(tick=0.1, watts=0.0)
    with pytest.raises(MeasurementFailedError, match=r"stood still .* choose another measurement\.meter"):
        take_reading(device.workload(0.05), device, window_seconds=0.5, clock=device.clock)


def test_a_meter_without_ticks_that_counts_nothing_is_named() -> None:
    device = Device(watts=0.0)
    with pytest.raises(MeasurementFailedError, match=r"0 J in .* lengthen measurement\.windowSeconds"):
        take_reading(device.workload(0.05), device, window_seconds=0.5, clock=device.clock)


def test_a_throttled_window_is_taken_again() -> None:
    device = Device(throttled=2)
    assert take_reading(device.workload(0.01), device, window_seconds=0.1, clock=device.clock).energy_joules > 0


def test_a_device_that_always_throttles_is_refused() -> None:
    device = Device(throttled=99)
    with pytest.raises(MeasurementFailedError, match=r"throttled \(hardware slowdown\) in 3 windows"):
        take_reading(device.workload(0.01), device, window_seconds=0.1, clock=device.clock)


def test_a_comparison_finds_the_reduction_and_an_interval_around_it() -> None:
    device, draw = Device(), random.Random(1)
    comparison = compare(
        device.workload(0.010, noise=lambda: draw.uniform(0.9, 1.1)),
        device.workload(0.004, noise=lambda: draw.uniform(0.9, 1.1)),
        device, pairs=8, window_seconds=0.2, clock=device.clock,
    )  # fmt: skip
    low, high = comparison.energy_reduction_interval
    assert low < comparison.energy_reduction_ratio < high
    assert comparison.energy_reduction_ratio == pytest.approx(0.6, abs=0.02)
    assert comparison.proven


def test_windows_alternate_so_that_drift_meets_both_alike() -> None:
    device = Device()
    order: list[str] = []

    def told(name: str) -> Workload:
        workload = device.workload(0.05)

        def run() -> None:
            if not order or order[-1] != name:
                order.append(name)
            workload.run()

        return Workload(run, 1)

    compare(told("A"), told("B"), device, pairs=4, window_seconds=0.1, clock=device.clock)
    assert order == ["A", "B", "A", "B", "A"]


def test_nothing_is_claimed_when_the_interval_holds_zero() -> None:
    dense = [reading(joules) for joules in (1.0, 1.2, 0.9, 1.1, 1.0)]
    pruned = [reading(joules) for joules in (1.1, 0.9, 1.0, 1.2, 0.95)]
    assert not of_readings(dense, pruned).proven


def test_an_average_weighs_windows_by_their_inferences() -> None:
    mean = average([reading(1.0, inferences=10, seconds=1.0), reading(4.0, inferences=30, seconds=1.0)])
    assert mean.energy_joules == pytest.approx(3.25)
    assert mean.power_watts == pytest.approx(65.0)


def test_provenances_are_never_mixed() -> None:
    with pytest.raises(MixedProvenanceError, match="Estimated and Measured"):
        of_readings([reading(1.0)], [reading(1.0, provenance=Provenance.MEASURED)])
    figures = ModelFigures(accuracy_ratio=1, energy_joules=1, power_watts=1, latency_seconds=1, memory_bytes=1)
    with pytest.raises(MixedProvenanceError):
        paper_metrics(figures, figures, dense_provenance=Provenance.MEASURED, pruned_provenance=Provenance.ESTIMATED)


TABLE_1 = {
    # accuracy %, energy saved %, latency ms, storage MB, carbon cut %
    "Standard Magnitude Pruning": (97.2, 16.5, 42.1, 122.6, 14.2),
    "Setup (beta = 0.0)": (97.9, 18.4, 40.8, 110.4, 16.1),
    "Setup (alpha = 0.0)": (89.3, 45.1, 35.2, 85.7, 43.8),
    "Proposed Energy-Aware Model": (98.4, 42.6, 36.4, 92.3, 41.9),
}


@pytest.mark.parametrize("row", TABLE_1)
def test_equations_4_to_7_give_what_the_rows_of_table_1_say(row: str) -> None:
    accuracy, saved, latency, storage, _ = TABLE_1[row]
    dense = ModelFigures(
        accuracy_ratio=0.991, energy_joules=1.0, power_watts=250.0, latency_seconds=0.0484, memory_bytes=245_200_000
    )
    pruned = ModelFigures(
        accuracy_ratio=accuracy / 100, energy_joules=1 - saved / 100, power_watts=250.0,
        latency_seconds=latency / 1000, memory_bytes=round(storage * 1e6),
    )  # fmt: skip
    metrics = paper_metrics(dense, pruned, dense_provenance=Provenance.MEASURED, pruned_provenance=Provenance.MEASURED)
    assert metrics.accuracy_retention_ratio == pytest.approx(accuracy / 99.1)
    assert metrics.energy_reduction_ratio == pytest.approx(saved / 100)
    assert metrics.latency_speedup_ratio == pytest.approx(48.4 / latency)
    assert metrics.memory_reduction_ratio == pytest.approx(1 - storage / 245.2)


def test_the_energy_reduction_is_not_the_power_reduction() -> None:
    dense = ModelFigures(accuracy_ratio=1, energy_joules=2, power_watts=100, latency_seconds=0.02, memory_bytes=2)
    half_the_time = ModelFigures(
        accuracy_ratio=1, energy_joules=1, power_watts=100, latency_seconds=0.01, memory_bytes=1
    )
    metrics = paper_metrics(
        dense, half_the_time, dense_provenance=Provenance.MEASURED, pruned_provenance=Provenance.MEASURED
    )
    assert metrics.energy_reduction_ratio == 0.5
    assert metrics.power_reduction_ratio == 0.0
    assert metrics.carbon_reduction_ratio == 0.5


def reading(
    joules: float, *, inferences: int = 10, seconds: float = 1.0, provenance: Provenance = Provenance.ESTIMATED
) -> Reading:
    return Reading(joules, joules * inferences / seconds, 0.1, inferences, seconds, provenance)
