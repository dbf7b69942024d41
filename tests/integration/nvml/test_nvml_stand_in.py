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
UUIDS = [f"GPU-{index:08x}-0000-0000-0000-000000000001" for index in range(3)]

PREAMBLE = """
import json, time
from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_pruner.meters import CounterStuckError, Gpu, MeterUnavailableError, MigRefusedError, select_meter
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
    assert found["device"] == f"Stand-in GPU ({UUIDS[0]})"
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


CONDITIONS = """
import dataclasses
print(json.dumps(dataclasses.asdict(NvmlMeter().conditions())))
"""


def test_the_stand_in_says_how_the_device_is(library: Path) -> None:
    found = run(library, CONDITIONS)
    assert found == {
        "temperature_celsius": 61, "clock_mhz": 1410, "power_watts": 100.0, "power_limit_watts": 250.0,
        "default_power_limit_watts": 250.0, "power_capped": False, "throttle_reasons": [], "other_processes": 0,
        "foreign_cpu_seconds": None,
    }  # fmt: skip


def test_a_power_cap_of_the_stand_in_is_recorded_and_heat_is_told_from_it(library: Path) -> None:
    # A power cap is how the card runs in production; heat is not.
    capped = run(library, CONDITIONS, THROTTLE=POWER_CAP, POWER_LIMIT=180)
    assert (capped["power_capped"], capped["throttle_reasons"]) == (True, [])
    assert (capped["power_limit_watts"], capped["default_power_limit_watts"]) == (180.0, 250.0)
    hot = run(library, CONDITIONS, THROTTLE=HARDWARE_SLOWDOWN | THERMAL)
    assert hot["throttle_reasons"] == ["hardware slowdown", "hardware thermal slowdown"]


def test_what_the_stand_in_does_not_tell_is_unknown_and_not_fine(library: Path) -> None:
    found = run(library, CONDITIONS, NO_THROTTLE=1, NO_PROCESSES=1, NO_POWER=1)
    assert (found["throttle_reasons"], found["power_capped"]) == (None, None)
    assert (found["other_processes"], found["power_watts"]) == (None, None)


@pytest.mark.parametrize("settings", [{}, {"HOST_PIDS": 1}], ids=["own process numbers", "numbers of the host"])
def test_company_on_the_stand_in_is_counted(library: Path, settings: dict[str, int]) -> None:
    assert run(library, CONDITIONS, OTHERS=2, **settings)["other_processes"] == 2


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
    assert "cut into MIG instances" in message
    # An estimate is refused for a model on a GPU, so the way out is to leave the GPU.
    assert "leave nvidia.com/gpu out" in message
    assert "measurement.minimumProvenance to Estimated" in message
    assert run(library, REFUSAL, KNOWS_MIG=1) is None
    # CUDA gives an instance its own UUID.
    instance = "print(json.dumps(refusal(lambda: NvmlMeter(Gpu('aaaaaaaa-0000-0000-0000-00000000000a')))))"
    assert run(library, instance, MIG=1)[0] == "MigRefusedError"


def test_a_stand_in_without_an_energy_counter_names_the_field(library: Path) -> None:
    kind, message = run(library, REFUSAL, NO_ENERGY=1)
    assert kind == "MeterUnavailableError"
    assert "counts no energy" in message
    assert "measurement.minimumProvenance to Estimated" in message


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
    ("settings", "want_kind", "want"),
    [
        ({"RESET_AFTER_MS": 900}, "CounterFellError", "its driver was loaded again"),
        ({"LOST_AFTER_MS": 900}, "CounterStuckError", "cannot be read any more: GPU is lost"),
    ],
    ids=["reset", "lost"],
)
def test_a_stand_in_counter_that_fails_is_not_taken_for_energy(
    library: Path, settings: dict[str, int], want_kind: str, want: str
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
    assert kind == want_kind
    assert want in message


@pytest.mark.parametrize(
    ("settings", "want_kind", "want"),
    [
        ({"RESET_AFTER_MS": 300}, "CounterFellError", "its driver was loaded again"),
        ({"LOST_AFTER_MS": 100}, "CounterStuckError", "cannot be read any more: GPU is lost"),
    ],
    ids=["reset", "lost"],
)
def test_a_stand_in_that_fails_while_its_period_is_searched_for_says_so(
    library: Path, settings: dict[str, int], want_kind: str, want: str
) -> None:
    kind, message = run(library, REFUSAL, **settings)
    assert kind == want_kind
    assert want in message


def test_a_window_in_which_the_stand_in_counter_fell_is_taken_again(library: Path) -> None:
    found = run(
        library,
        """
from coppice_pruner.measurement import Workload, take_reading
meter = NvmlMeter()
meter.update_period_seconds = 0.002
begin = meter.read_joules()
reading = take_reading(Workload(lambda: busy(0.001), 1), meter, window_seconds=0.6)
print(json.dumps([reading.power_watts, reading.rejected, meter.read_joules() > begin]))
""",
        RESET_AFTER_MS=900, TICK_MS=2, WATTS=100,
    )  # fmt: skip
    watts, rejected, grew = found
    assert watts == pytest.approx(100, rel=0.05)
    assert rejected == ["the counter fell"]
    assert grew


WHICH = """
import os
def device(gpu=None):
    meter = NvmlMeter(gpu)
    # No index: that of another container or of CUDA names another GPU.
    found = [meter.device, meter.power_watts()]
    meter.close()
    return found
"""


def test_of_several_stand_ins_the_one_that_torch_names_is_counted(library: Path) -> None:
    script = f"""{WHICH}
os.environ["CUDA_VISIBLE_DEVICES"] = "2"
print(json.dumps(device(Gpu("{UUIDS[1].removeprefix("GPU-")}"))))
"""
    assert run(library, script, GPUS=3, WATTS=100) == [f"Stand-in GPU ({UUIDS[1]})", 200.0]


def test_without_torchs_word_the_environment_says_which_stand_in_is_counted(library: Path) -> None:
    script = f"""{WHICH}
told = []
for visible, order in ((None, None), ("2", None), ("2", "PCI_BUS_ID"), ("GPU-00000001", None), ("GPU-ffff", None)):
    os.environ.pop("CUDA_DEVICE_ORDER", None)
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    if order is not None:
        os.environ["CUDA_DEVICE_ORDER"] = order
    told.append(refusal(lambda: told.append(device())))
print(json.dumps([item for item in told if item is not None]))
"""
    unset, ambiguous, by_index, by_uuid, missing = run(library, script, GPUS=3)
    for kind, message in (unset, ambiguous):
        assert kind == "MeterUnavailableError"
        assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in message
    assert by_index == [f"Stand-in GPU ({UUIDS[2]})", 300.0]
    assert by_uuid == [f"Stand-in GPU ({UUIDS[1]})", 200.0]
    assert "leaves 0 of this container's 3 GPUs" in missing[1]


def test_the_stand_in_counter_is_held_against_its_instant_power(library: Path) -> None:
    script = """
import os
from coppice_pruner.measurement import Workload, cross_check
meter = NvmlMeter()
meter.update_period_seconds = 0.02
found = []
for name, value in (("AS_IT_IS", "1"), ("COUNTER_FACTOR", "3"), ("NO_POWER", "1")):
    os.environ["STAND_IN_" + name] = value
    check = cross_check(Workload(lambda: time.sleep(0.005), 1), meter, window_seconds=0.5)
    found.append(check and [check.ratio, check.agrees, check.source])
print(json.dumps(found))
"""
    right, wrong, untold = run(library, script, TICK_MS=2)
    assert right == [pytest.approx(1.0, abs=0.1), True, "its power readings, summed up"]
    # A counter in other units than everybody thinks, say.
    assert wrong[:2] == [pytest.approx(3.0, abs=0.3), False]
    assert untold is None


def test_a_stand_in_without_field_186_gives_its_average_power(library: Path) -> None:
    script = """
meter = NvmlMeter()
busy(0.6)
print(json.dumps(meter.power_watts()))
"""
    assert run(library, script, NO_INSTANT=1, WATTS=100) == pytest.approx(100.0)


def test_the_stand_in_without_work_draws_its_idle_power(library: Path) -> None:
    script = """
from coppice_pruner.measurement import idle_power_watts
meter = NvmlMeter()
meter.update_period_seconds = 0.002
print(json.dumps(idle_power_watts(meter, window_seconds=0.2)))
"""
    assert run(library, script, TICK_MS=2, WATTS=60) == pytest.approx(60, rel=0.05)


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
