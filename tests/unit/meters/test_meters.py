"""Meters without hardware, and the choice between them. NVML has tests of its own against a stand-in library."""

from __future__ import annotations

from pathlib import Path

import pytest

from coppice_api.base import Provenance
from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.meters import (
    CounterStuckError,
    EstimateMeter,
    MeasurementImpossibleError,
    Meter,
    MeterUnavailableError,
    ReplayMeter,
    select_meter,
)
from coppice_pruner.meters.estimate import DEFAULT_WATTS_PER_CORE, cpu_name, open_estimate, watts_per_core

MEASURED, ESTIMATED = MinimumProvenance.MEASURED, MinimumProvenance.ESTIMATED


def no_gpu() -> Meter:
    raise MeterUnavailableError("no NVIDIA driver answers")


def test_the_estimate_is_cpu_seconds_times_watts() -> None:
    seconds = iter([2.0, 5.0])
    meter = EstimateMeter(4.0, clock=lambda: next(seconds))
    assert (meter.read_joules(), meter.read_joules()) == (8.0, 20.0)
    assert meter.provenance is Provenance.ESTIMATED
    assert not meter.conditions().throttled


def test_the_estimate_says_which_watts_it_takes() -> None:
    assert EstimateMeter(6.25, cpu="Some CPU").device == "Some CPU, 6.25 W a busy core"


@pytest.mark.parametrize(
    ("cpu", "want"),
    [
        ("Intel(R) Xeon(R) Platinum 8480+", 6.25),
        ("AMD EPYC 7763 64-Core Processor", 4.375),
        ("AMD EPYC 9654 96-Core Processor", 3.75),
        ("A CPU of tomorrow", DEFAULT_WATTS_PER_CORE),
    ],
)
def test_watts_come_from_a_table_of_cpus(cpu: str, want: float) -> None:
    assert watts_per_core(cpu) == want


def test_the_cpu_is_read_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: AMD EPYC 7763 64-Core Processor\n")
    assert cpu_name(cpuinfo) == "AMD EPYC 7763 64-Core Processor"
    assert cpu_name(tmp_path / "none") == "CPU"
    assert open_estimate({}, cpuinfo).watts_per_core == 4.375


def test_the_table_can_be_overruled(tmp_path: Path) -> None:
    assert open_estimate({"COPPICE_WATTS_PER_CORE": "9.5"}, tmp_path).watts_per_core == 9.5


@pytest.mark.parametrize("text", ["lots", "0", "-3", "nan"])
def test_watts_that_are_no_watts_are_refused_by_name(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputRefusedError, match="COPPICE_WATTS_PER_CORE"):
        open_estimate({"COPPICE_WATTS_PER_CORE": text}, tmp_path)


def test_auto_takes_the_gpus_counter_for_a_model_on_a_gpu() -> None:
    gpu = ReplayMeter([])
    assert select_meter(MeterKind.AUTO, MEASURED, cuda=True, open_nvml=lambda: gpu) is gpu


def test_auto_estimates_on_a_cpu_when_that_is_accepted() -> None:
    assert select_meter(MeterKind.AUTO, ESTIMATED, cuda=False, open_nvml=no_gpu).provenance is Provenance.ESTIMATED


@pytest.mark.parametrize(
    ("kind", "minimum", "cuda", "reason"),
    [
        (MeterKind.AUTO, MEASURED, False, r"minimumProvenance is Measured; set it to Estimated"),
        (MeterKind.AUTO, ESTIMATED, True, "no NVIDIA driver answers.*CPU time says nothing"),
        (MeterKind.NVML, ESTIMATED, False, "the model runs on the CPU"),
        (MeterKind.NVML, ESTIMATED, True, "no NVIDIA driver answers"),
        (MeterKind.RAPL, ESTIMATED, False, "RAPL: this version does not read it"),
        (MeterKind.ESTIMATE, MEASURED, False, "minimumProvenance is Measured"),
    ],
)
def test_a_run_never_gets_less_than_it_asked_for(
    kind: MeterKind, minimum: MinimumProvenance, cuda: bool, reason: str
) -> None:
    with pytest.raises(MeasurementImpossibleError, match=reason):
        select_meter(kind, minimum, cuda=cuda, open_nvml=no_gpu)


def test_a_recording_ends() -> None:
    meter = ReplayMeter([1.0])
    assert meter.read_joules() == 1.0
    with pytest.raises(CounterStuckError, match="has ended"):
        meter.read_joules()
