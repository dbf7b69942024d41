"""How well costs are predicted on this CPU: the grid on widths held out, whole pruned models, and the estimator on
models of another family than it was calibrated on. Energy on a CPU is CPU time times watts, so ratios of time are
compared."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from coppice_pruner.deployment import folded
from coppice_pruner.estimator import OPERATORS, calibrate, take_samples
from coppice_pruner.measurement import one_thread
from coppice_pruner.meters.estimate import open_estimate
from coppice_pruner.models import zoo
from coppice_pruner.profiling import CostModel, build_cost_model, profile_layers, remeasure, time_in_turn
from coppice_pruner.surgery import ChannelGroup, find_groups, prune

BATCH, SIZE = 32, 24
LEAST_SHARE = 0.25
"""Held-out widths lie between this share of a group's and all of it: where a run goes."""
MULTIPLE = 4


def bench(quick: bool) -> dict[str, Any]:
    """Return the errors of the three predictions, all measured here."""
    with one_thread():
        grids = [_grid(name, quick) for name in (("vgg",) if quick else ("vgg", "resnet", "vit"))]
        transfer = _transfer(quick)
    layers = [error for grid in grids for error in grid["layer_errors"]]
    wholes = [error for grid in grids for error in grid["model_errors"]]
    return {
        "layer_median_error_ratio": statistics.median(map(abs, layers)),
        "model_error_ratio": statistics.median(map(abs, wholes)),
        # The worst of the families it was not calibrated on.
        "analytic_transfer_error_ratio": max(transfer.values()),
        "provenance": "Estimated",
        "layers": len(layers),
        "models": len(wholes),
        "grids": grids,
        "transfer": {"calibrated_on": [OPERATORS, "vgg"], **transfer},
    }


def _dense(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "vgg":
        return zoo.vgg(widths=((48, 48), (96, 96), (128, 128)), classes=100)
    if name == "resnet":
        return zoo.resnet(widths=(32, 64, 128), classes=100)
    return zoo.vit(image_size=SIZE, width=128, depth=4, heads=8, mlp_width=512, classes=100)


def _grid(name: str, quick: bool) -> dict[str, Any]:
    inputs = (torch.randn(BATCH, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)),)
    dense = folded(_dense(name).eval(), inputs)
    groups = find_groups(dense, inputs)
    begin = time.monotonic()
    profiles = profile_layers(
        dense, inputs, open_estimate(), window_seconds=0.2, budget_seconds=5.0, synchronize=lambda: None
    )  # fmt: skip
    model = build_cost_model(
        dense, inputs, groups, profiles,
        budget_seconds=5.0 if quick else 20.0, multiple=MULTIPLE, min_width=MULTIPLE, clock=time.process_time,
    )  # fmt: skip
    seconds = time.monotonic() - begin
    draw = random.Random(1)
    layers: list[float] = []
    wholes: list[float] = []
    # The first pruned model is what a run measures after its first step; errors are those of the ones after it.
    for trial in range(3 if quick else 7):
        kept = _kept(groups, draw)
        widths = {group: len(indices) for group, indices in kept.items()}
        pruned = prune(dense, inputs, kept)
        ratio = _ratio(dense, pruned, inputs)
        measured = remeasure(model, dense, pruned, inputs, widths, clock=time.process_time)
        here = {**model.built_widths, **widths}
        layers += [
            cost.energy(here) / measured[cost.layer] - 1.0 for cost in model.layers if cost.layer in measured
        ]  # fmt: skip
        if trial:
            wholes.append(model.predict(widths) / model.predict({}) / ratio - 1.0)
        else:
            model = _calibrated(model, widths, ratio)
    return {
        "model": name, "profile_and_grid_seconds": seconds, "layer_errors": layers, "model_errors": wholes,
    }  # fmt: skip


def _calibrated(model: CostModel, widths: dict[str, int], ratio: float) -> CostModel:
    dense_joules = model.predict({})
    return model.calibrate({}, dense_joules).calibrate(widths, dense_joules * ratio)


def _kept(groups: tuple[ChannelGroup, ...], draw: random.Random) -> dict[str, tuple[int, ...]]:
    kept = {}
    for group in groups:
        unit = 1 if group.attention else MULTIPLE
        choices = [width for width in range(unit, group.width, unit) if width >= LEAST_SHARE * group.width]
        if choices:
            kept[group.name] = tuple(range(draw.choice(choices)))
    return kept


def _ratio(dense: nn.Module, pruned: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Return what the pruned model takes over what the dense one takes, measured in turn."""
    pruned = folded(pruned, inputs)

    def run(model: nn.Module) -> None:
        model(*inputs)

    was, now = time_in_turn([lambda: run(dense), lambda: run(pruned)], seconds_each=1.0, clock=time.process_time)
    return now / was


def _transfer(quick: bool) -> dict[str, float]:
    seconds_each = 0.003 if quick else 0.01
    samples = [
        item for family in (OPERATORS, "vgg") for item in take_samples(family, seconds_each=seconds_each, quick=quick)
    ]
    fit = calibrate(samples)
    result = {}
    for family in ("resnet", "vit"):
        others = take_samples(family, seconds_each=2 * seconds_each, quick=quick, layers=False)
        result[family] = statistics.median(abs(fit.model_seconds(s.operators) / s.seconds - 1.0) for s in others)
    return result


def main() -> None:
    """Print the errors as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one model and fewer samples")
    print(json.dumps(bench(parser.parse_args().quick), indent=2))


if __name__ == "__main__":
    main()
