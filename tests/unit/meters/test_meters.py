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
    Gpu,
    MeasurementImpossibleError,
    Meter,
    MeterUnavailableError,
    RaplMeter,
    ReplayMeter,
    second_of,
    select_meter,
)
from coppice_pruner.meters.estimate import cpu_name, open_estimate
from coppice_pruner.meters.integral import PowerIntegral

MEASURED, ESTIMATED = MinimumProvenance.MEASURED, MinimumProvenance.ESTIMATED


def no_gpu(_gpu: Gpu | None) -> Meter:
    raise MeterUnavailableError("no NVIDIA driver answers")


def no_rocm(_gpu: Gpu | None) -> Meter:
    raise MeterUnavailableError("AMD SMI cannot be loaded")


def no_rapl() -> Meter:
    raise MeterUnavailableError("root alone may read it")


def test_the_estimate_is_cpu_seconds_times_watts() -> None:
    seconds = iter([2.0, 5.0])
    meter = EstimateMeter(4.0, clock=lambda: next(seconds))
    assert (meter.read_joules(), meter.read_joules()) == (8.0, 20.0)
    assert meter.provenance is Provenance.ESTIMATED
    assert not meter.conditions().throttled


def test_the_estimate_says_which_watts_it_takes() -> None:
    assert EstimateMeter(6.25, cpu="Some CPU").device == "Some CPU, 6.25 W a busy core"


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


def test_auto_takes_the_counter_of_the_gpu_that_the_model_runs_on() -> None:
    asked: list[Gpu | None] = []

    def open_one(gpu: Gpu | None) -> Meter:
        asked.append(gpu)
        return counted

    counted = ReplayMeter([])
    nvidia, amd = Gpu(uuid="a"), Gpu(pci_address="0000:03:00.0", rocm=True)
    assert select_meter(MeterKind.AUTO, MEASURED, cuda=True, gpu=nvidia, open_nvml=open_one) is counted
    assert select_meter(MeterKind.AUTO, MEASURED, cuda=True, gpu=amd, open_nvml=no_gpu, open_rocm=open_one) is counted
    assert asked == [nvidia, amd]


def test_auto_on_a_cpu_takes_rapl_and_else_an_estimate_when_that_is_accepted() -> None:
    packages = ReplayMeter([])
    assert select_meter(MeterKind.AUTO, MEASURED, cuda=False, open_rapl=lambda: packages) is packages
    assert select_meter(MeterKind.AUTO, ESTIMATED, cuda=False, open_rapl=lambda: packages) is packages
    found = select_meter(MeterKind.AUTO, ESTIMATED, cuda=False, open_rapl=no_rapl)
    assert found.provenance is Provenance.ESTIMATED


AMD = Gpu(rocm=True)


@pytest.mark.parametrize(
    ("kind", "minimum", "gpu", "reason"),
    [
        (MeterKind.AUTO, MEASURED, None, r"RAPL: root alone.*minimumProvenance is Measured; set it to Estimated"),
        (MeterKind.AUTO, ESTIMATED, Gpu(), "no NVIDIA driver answers.*CPU time says nothing"),
        (MeterKind.AUTO, ESTIMATED, AMD, "AMD SMI cannot be loaded.*CPU time says nothing"),
        (MeterKind.NVML, ESTIMATED, None, "the model runs on the CPU"),
        (MeterKind.NVML, ESTIMATED, Gpu(), "no NVIDIA driver answers"),
        (MeterKind.NVML, ESTIMATED, AMD, "NVML: the GPU is AMD's: use ROCm"),
        (MeterKind.ROCM, ESTIMATED, None, "ROCm: the model runs on the CPU"),
        (MeterKind.ROCM, ESTIMATED, Gpu(), "runs the model through CUDA: use NVML"),
        (MeterKind.RAPL, ESTIMATED, None, "RAPL: root alone may read it"),
        (MeterKind.RAPL, ESTIMATED, Gpu(), "RAPL: the CPU's energy says nothing of a model that runs on a GPU"),
        (MeterKind.ESTIMATE, MEASURED, None, "minimumProvenance is Measured"),
    ],
)
def test_a_run_never_gets_less_than_it_asked_for(
    kind: MeterKind, minimum: MinimumProvenance, gpu: Gpu | None, reason: str
) -> None:
    with pytest.raises(MeasurementImpossibleError, match=reason):
        select_meter(
            kind, minimum, cuda=gpu is not None, gpu=gpu,
            open_nvml=no_gpu, open_rocm=no_rocm, open_rapl=no_rapl,
        )  # fmt: skip


class Heater:
    """A device of 40 W that turns to 60 W, and then stops telling."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.told = True

    def power_watts(self) -> float:
        if not self.told:
            raise MeterUnavailableError("lost")
        return 40.0 if self.seconds < 10 else 60.0


def test_power_is_summed_up_by_the_trapezoidal_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    heater = Heater()
    # No sampling but that of this test, whose clock stands still otherwise.
    monkeypatch.setattr("coppice_pruner.meters.integral.SAMPLE_SECONDS", 3600.0)
    with PowerIntegral(heater, lambda: heater.seconds) as integral:
        assert integral.read_joules() == 0.0
        heater.seconds = 8.0
        assert integral.read_joules() == pytest.approx(320.0)
        heater.seconds = 10.0
        assert integral.read_joules() == pytest.approx(420.0)
        heater.told = False
        with pytest.raises(MeterUnavailableError):
            integral.read_joules()


def test_an_estimate_has_nothing_to_be_held_against() -> None:
    assert second_of(EstimateMeter(5.0)) is None
    assert second_of(ReplayMeter([])) is None


def test_rapl_is_held_against_the_estimate(tmp_path: Path) -> None:
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    for name, text in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "262143328850")):
        (package / name).write_text(text)
    meter = RaplMeter(tmp_path)
    second = second_of(meter)
    meter.close()
    assert second is not None
    assert second.active_only
    assert second.source == "the estimate from CPU time"


def test_a_recording_ends() -> None:
    meter = ReplayMeter([1.0])
    assert meter.read_joules() == 1.0
    with pytest.raises(CounterStuckError, match="has ended"):
        meter.read_joules()
