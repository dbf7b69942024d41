"""The NVML meter through a stand-in library that speaks NVML's ABI: nvidia-ml-py loads it as it loads the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import nvml_stand_in

POWER_CAP, HARDWARE_SLOWDOWN, THERMAL = 0x4, 0x8, 0x40

PREAMBLE = """
import json, time
from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_pruner.meters import MeterUnavailableError, MigRefusedError, CounterStuckError, select_meter
from coppice_pruner.meters.nvml import NvmlMeter
def busy(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
def refusal(make):
    try:
        make()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return None
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml_stand_in.build(tmp_path_factory.mktemp("nvml"))


def run(library: Path | None, script: str, **settings: object) -> Any:
    """Run a script in a process that finds the stand-in, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    environment |= {f"STAND_IN_{name}": str(value) for name, value in settings.items()}
    if library is not None:
        environment["LD_LIBRARY_PATH"] = str(library)
    result = subprocess.run(
        [sys.executable, "-c", PREAMBLE + script], env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("tick_ms", [20, 100])
def test_the_stand_in_counter_gives_watts_times_seconds_and_its_period_is_found(library: Path, tick_ms: int) -> None:
    found = run(
        library,
        """
meter = NvmlMeter()
a, begin = meter.read_joules(), time.monotonic()
busy(1.0)
b, end = meter.read_joules(), time.monotonic()
print(json.dumps({"joules": b - a, "seconds": end - begin, "period": meter.update_period_seconds,
                  "device": meter.device, "provenance": meter.provenance}))
""",
        WATTS=120, TICK_MS=tick_ms,
    )  # fmt: skip
    # The counter is at most one tick behind at either end.
    assert found["joules"] == pytest.approx(120 * found["seconds"], abs=120 * 2 * tick_ms / 1000)
    assert found["period"] == pytest.approx(tick_ms / 1000, rel=0.5)
    assert found["device"] == "Stand-in GPU (GPU-00000000-0000-0000-0000-000000000001)"
    assert found["provenance"] == "Measured"


def test_windows_of_the_stand_in_are_aligned_to_its_ticks_and_measured(library: Path) -> None:
    found = run(
        library,
        """
from coppice_pruner.measurement import Workload, compare
def work(milliseconds):
    # The stand-in draws the same power whatever the machine does, so waiting is work enough.
    return Workload(lambda: time.sleep(milliseconds / 1000), 4)
meter = NvmlMeter()
comparison = compare(work(20), work(10), meter, pairs=2, window_seconds=0.1)
reading = comparison.dense[0]
print(json.dumps({"watts": reading.power_watts, "seconds": reading.seconds, "provenance": reading.provenance,
                  "reduction": comparison.energy_reduction_ratio}))
""",
        WATTS=100, TICK_MS=20,
    )  # fmt: skip
    # At least fifty ticks, whatever window was asked for.
    assert found["seconds"] >= 0.9
    assert found["watts"] == pytest.approx(100, rel=0.05)
    assert found["provenance"] == "Measured"
    assert found["reduction"] == pytest.approx(0.5, abs=0.1)


def test_the_stand_in_says_how_the_device_is(library: Path) -> None:
    script = """
meter = NvmlMeter()
conditions = meter.conditions()
print(json.dumps([conditions.temperature_celsius, conditions.clock_mhz, conditions.power_limit_watts,
                  conditions.throttle_reasons, conditions.throttled]))
"""
    assert run(library, script) == [61, 1410, 250.0, [], False]
    # A power cap is how the card runs in production; heat is not.
    assert run(library, script, THROTTLE=POWER_CAP)[3:] == [[], False]
    reasons = ["hardware slowdown", "hardware thermal slowdown"]
    assert run(library, script, THROTTLE=HARDWARE_SLOWDOWN | THERMAL)[3:] == [reasons, True]


def test_a_stand_in_that_throttles_is_refused_with_its_reason(library: Path) -> None:
    kind, message = run(
        library,
        """
from coppice_pruner.measurement import Workload, take_reading
meter = NvmlMeter()
meter.update_period_seconds = 0.002
print(json.dumps(refusal(lambda: take_reading(Workload(lambda: busy(0.001), 1), meter, window_seconds=0.05))))
""",
        THROTTLE=HARDWARE_SLOWDOWN, TICK_MS=2,
    )  # fmt: skip
    assert kind == "MeasurementFailedError"
    assert "throttled (hardware slowdown)" in message


REFUSAL = "print(json.dumps(refusal(NvmlMeter)))"


def test_a_stand_in_in_mig_mode_is_refused_by_name(library: Path) -> None:
    kind, message = run(library, REFUSAL, MIG=1)
    assert kind == "MigRefusedError"
    assert "MIG mode" in message
    assert run(library, REFUSAL, KNOWS_MIG=1) is None


def test_a_stand_in_without_an_energy_counter_names_the_field(library: Path) -> None:
    kind, message = run(library, REFUSAL, NO_ENERGY=1)
    assert kind == "MeterUnavailableError"
    assert "counts no energy" in message
    assert "measurement.meter" in message


def test_a_driver_that_does_not_start_is_told(library: Path) -> None:
    driver_not_loaded = 9
    kind, message = run(library, REFUSAL, INIT_ERROR=driver_not_loaded)
    assert kind == "MeterUnavailableError"
    assert "no NVIDIA driver answers" in message


def test_a_machine_without_the_library_is_told() -> None:
    kind, message = run(None, REFUSAL)
    assert kind == "MeterUnavailableError"
    assert "nvidia.com/gpu" in message


@pytest.mark.parametrize(
    ("settings", "want"),
    [({"RESET_AFTER_MS": 900}, "the driver was loaded again"), ({"LOST_AFTER_MS": 900}, "cannot be read any more")],
    ids=["reset", "lost"],
)
def test_a_stand_in_counter_that_fails_is_not_taken_for_energy(
    library: Path, settings: dict[str, int], want: str
) -> None:
    kind, message = run(
        library,
        """
meter = NvmlMeter()
meter.read_joules()
busy(1.0)
print(json.dumps(refusal(meter.read_joules)))
""",
        **settings,
    )
    assert kind == "CounterStuckError"
    assert want in message


def test_a_stand_in_counter_that_stands_still_is_told(library: Path) -> None:
    kind, message = run(
        library,
        """
from coppice_pruner.measurement import Workload, take_reading
meter = NvmlMeter()
meter.update_period_seconds = 0.002
print(json.dumps(refusal(lambda: take_reading(Workload(lambda: busy(0.001), 1), meter, window_seconds=0.05))))
""",
        STUCK=1,
    )
    assert kind == "MeasurementFailedError"
    assert "stood still" in message


def test_auto_takes_the_stand_in_for_a_model_on_a_gpu(library: Path) -> None:
    script = """
meter = select_meter(MeterKind.AUTO, MinimumProvenance.MEASURED, cuda=True)
print(json.dumps([meter.name, meter.provenance]))
"""
    assert run(library, script) == ["nvml", "Measured"]
