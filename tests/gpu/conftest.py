"""The GPU and its counter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_pruner.meters import gpu_of, select_meter
from coppice_pruner.meters.nvml import NvmlMeter

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and skip them where there is no GPU."""
    missing = pytest.mark.skip(reason="no NVIDIA GPU that torch can use: run `make test-gpu` on a machine with one")
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available() or torch.version.hip is not None:
                item.add_marker(missing)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where models run."""
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(scope="session")
def meter(device: torch.device) -> Iterator[NvmlMeter]:
    """The counter that a run on this GPU takes by itself."""
    chosen = select_meter(MeterKind.AUTO, MinimumProvenance.MEASURED, cuda=True, gpu=gpu_of(device))
    assert isinstance(chosen, NvmlMeter)
    yield chosen
    chosen.close()
