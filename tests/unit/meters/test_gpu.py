"""Which GPU is counted, where torch does not say its UUID."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID

import pytest
import torch

from coppice_pruner.meters import Gpu, MeterUnavailableError, MigRefusedError, gpu_of
from coppice_pruner.meters.gpu import visible_uuid

ALL = ["GPU-aaaa1111", "GPU-aaaa2222", "GPU-bbbb3333"]
BY_ADDRESS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("visible", "position", "want"),
    [
        ("GPU-bbbb3333", 0, ALL[2]),
        ("GPU-b", 0, ALL[2]),
        ("GPU-bbbb3333,GPU-aaaa1111", 1, ALL[0]),
        ("2,0", 0, ALL[2]),
        ("2,0", 1, ALL[0]),
        (" 1 ", 0, ALL[1]),
        # CUDA stops reading at an entry that names nothing.
        ("1,7,2", 0, ALL[1]),
        (None, 2, ALL[2]),
    ],
)
def test_the_entry_at_the_position_is_the_gpu(visible: str | None, position: int, want: str) -> None:
    environ = BY_ADDRESS if visible is None else {**BY_ADDRESS, "CUDA_VISIBLE_DEVICES": visible}
    assert visible_uuid(ALL, environ, position) == want


@pytest.mark.parametrize(
    ("visible", "position"), [("", 0), ("-1", 0), ("1,7,2", 1), ("GPU-aaaa", 0), ("GPU-cccc", 0), ("0", 1)]
)
def test_an_entry_that_names_no_single_gpu_is_refused_by_the_variable(visible: str, position: int) -> None:
    with pytest.raises(MeterUnavailableError, match="CUDA_VISIBLE_DEVICES"):
        visible_uuid(ALL, {**BY_ADDRESS, "CUDA_VISIBLE_DEVICES": visible}, position)


def test_an_index_means_nothing_until_the_order_is_that_of_the_addresses() -> None:
    for environ in ({}, {"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}):
        with pytest.raises(MeterUnavailableError, match="Set CUDA_DEVICE_ORDER=PCI_BUS_ID"):
            visible_uuid(ALL, environ)
    assert visible_uuid(ALL[:1], {"CUDA_VISIBLE_DEVICES": "0"}) == ALL[0]
    assert visible_uuid(ALL[:1], {}) == ALL[0]


def test_a_mig_instance_is_refused_by_name() -> None:
    with pytest.raises(MigRefusedError, match="MIG-1234"):
        visible_uuid(ALL, {"CUDA_VISIBLE_DEVICES": "MIG-1234"})


def test_a_model_on_the_cpu_has_no_gpu() -> None:
    assert gpu_of(torch.device("cpu")) is None


@pytest.mark.parametrize("hip", [None, "6.4.0"], ids=["CUDA", "ROCm"])
def test_torch_names_the_gpu_that_the_model_runs_on(hip: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def properties(position: int) -> SimpleNamespace:
        # The attributes that torch 2.13 gives; no GPU was at hand.
        asked.append(position)
        return SimpleNamespace(
            uuid=UUID("7d8fb7a6-0000-0000-0000-000000000001"), pci_domain_id=0, pci_bus_id=0x83, pci_device_id=0
        )

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.version, "hip", hip)
    want = Gpu("7d8fb7a6-0000-0000-0000-000000000001", "0000:83:00.0", rocm=hip is not None, position=3)
    # "cuda" is the current device, which torchrun's local rank has set.
    assert gpu_of(torch.device("cuda")) == want
    assert gpu_of(torch.device("cuda", 1)) == replace(want, position=1)
    assert asked == [3, 1]


def test_a_torch_that_does_not_tell_leaves_it_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _position: SimpleNamespace(name="a GPU"))
    assert gpu_of(torch.device("cuda", 2)) == Gpu(position=2)
