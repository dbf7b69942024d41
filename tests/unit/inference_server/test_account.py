"""Which account charges the inferences of a server."""

from __future__ import annotations

import time

import pytest
import torch
from inference_server import meters
from inference_server.energy import CpuEnergy, GpuEnergy
from inference_server.errors import RefusedError
from inference_server.meters import open_account
from inference_server.settings import MeterChoice, Settings

from coppice_api.prunejob import MeterKind
from coppice_pruner.meters import EstimateMeter, Gpu, MeterUnavailableError, ReplayMeter, select_meter

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
GPU = Gpu(uuid="7d8fb7a6-0000-0000-0000-000000000001")


def settings(meter: MeterChoice = MeterChoice.AUTO, *, threads: int = 1) -> Settings:
    return Settings(model_uri="file:///model", meter=meter, torch_threads=threads)


def counter(joules: list[float]) -> ReplayMeter:
    meter = ReplayMeter(joules)
    meter.name = "nvml"
    return meter


@pytest.mark.parametrize("choice", [MeterChoice.AUTO, MeterChoice.ESTIMATE])
def test_a_server_on_a_cpu_charges_cpu_time_even_where_sockets_are_counted(
    choice: MeterChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A socket's counter would charge the neighbours and the HTTP side to the model.
    asked: list[MeterKind] = []

    def select(kind: MeterKind, *args: object, **kwargs: object) -> EstimateMeter:
        asked.append(kind)
        return EstimateMeter(5.0)

    monkeypatch.setattr(meters, "select_meter", select)
    account = open_account(settings(choice), CPU)
    assert isinstance(account, CpuEnergy)
    assert account.provenance == "Estimated"
    assert asked == [MeterKind.ESTIMATE]


@pytest.mark.parametrize(("threads", "want"), [(1, time.thread_time), (2, time.process_time)])
def test_the_clock_sees_all_threads_of_an_inference_and_no_more(threads: int, want: object) -> None:
    account = open_account(settings(threads=threads), CPU)
    assert isinstance(account, CpuEnergy)
    assert account._clock is want


def test_a_server_on_a_gpu_charges_by_the_counter_of_that_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    meter = counter([7.0])

    def select(kind: MeterKind, *_: object, **options: object) -> ReplayMeter:
        asked.append({"kind": kind, **options})
        return meter

    monkeypatch.setattr(meters, "select_meter", select)
    monkeypatch.setattr(meters, "gpu_of", lambda device: GPU if device == CUDA else None)
    account = open_account(settings(), CUDA)
    assert isinstance(account, GpuEnergy)
    assert account.provenance == "Measured"
    assert account._read_joules() == 7.0
    assert asked == [{"kind": MeterKind.AUTO, "cuda": True, "gpu": GPU}]


def test_a_meter_that_cannot_be_had_is_refused_by_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError, match=r"METER: .*NVML: the model runs on the CPU"):
        open_account(settings(MeterChoice.NVML), CPU)

    def none(_gpu: Gpu | None) -> ReplayMeter:
        raise MeterUnavailableError("no NVIDIA driver answers")

    monkeypatch.setattr(meters, "gpu_of", lambda _device: GPU)
    monkeypatch.setattr(meters, "select_meter", lambda *args, **options: select_meter(*args, **options, open_nvml=none))
    with pytest.raises(RefusedError, match=r"METER: .*no NVIDIA driver answers"):
        open_account(settings(), CUDA)
