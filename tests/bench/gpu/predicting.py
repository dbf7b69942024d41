"""Models that the shipped profile of this GPU was not fitted to, measured here and predicted from their operators."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator
from typing import Any

import torch
import torchvision
from torch import nn

from coppice_pruner.deployment import folded
from coppice_pruner.estimator import DEVICES, DeviceProfile, estimate, load_device, record_operators
from coppice_pruner.estimator.gpu import launched
from coppice_pruner.meters import Meter

MODELS = (
    ("resnet18", 128), ("resnet50", 1), ("resnet50", 32), ("mobilenet_v2", 128),
    ("convnext_tiny", 32), ("vit_b_16", 32), ("vgg16", 32),
)  # fmt: skip


def bench(meter: Meter, device: torch.device, quick: bool) -> dict[str, Any]:
    """Return for each model what was measured and what `coppice predict` says; energies measured by the counter."""
    profile = _profile_of(torch.cuda.get_device_name(device))
    rows = []
    for name, batch, module, inputs in _models(device, MODELS[:2] if quick else MODELS):
        seconds, joules = launched(
            functools.partial(module, *inputs), meter, device, seconds_each=0.05, window_seconds=0.5
        )
        row: dict[str, Any] = {"model": name, "batch": batch, "seconds": seconds, "joules": joules / batch}
        if profile is not None:
            found = estimate(record_operators(module, inputs), profile, batch_size=batch)
            row |= {"predicted_seconds": found.seconds, "predicted_joules": found.energy_joules}
        rows.append(row)
        print(f"    {row}", flush=True)
    return {"rows": rows, "profile": profile.name if profile else None, **_errors(rows)}


def _errors(rows: list[dict[str, Any]]) -> dict[str, float]:
    if not rows or "predicted_joules" not in rows[0]:
        return {}
    return {
        f"{what}_median_error_ratio": statistics.median(abs(row[f"predicted_{what}"] / row[what] - 1.0) for row in rows)
        for what in ("seconds", "joules")
    }


def _profile_of(gpu: str) -> DeviceProfile | None:
    name = next((item for item in DEVICES if item in gpu.lower()), None)
    return load_device(name) if name else None


def _models(
    device: torch.device, wanted: tuple[tuple[str, int], ...]
) -> Iterator[tuple[str, int, nn.Module, tuple[torch.Tensor, ...]]]:
    for name, batch in wanted:
        torch.manual_seed(0)
        inputs = (torch.randn(batch, 3, 224, 224, device=device),)
        model: nn.Module = getattr(torchvision.models, name)()
        yield name, batch, folded(model.eval().to(device), inputs), inputs
