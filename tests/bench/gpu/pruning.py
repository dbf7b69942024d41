"""One model trained, pruned and measured on the GPU: Knapsack steered by the counter beside Torch-Pruning's settings.

The protocol is that of `make bench-engine`: the same budget, steps and fine-tuning for all, one seed. The peers, which
need no measuring, are pruned side by side before Knapsack has the GPU for itself; then all are measured in turn.
"""

from __future__ import annotations

import functools
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from coppice_pruner.deployment import folded
from coppice_pruner.measurement import FEW_TICKS, average, interleaved, model_workload
from coppice_pruner.measurement.comparison import of_readings
from coppice_pruner.meters import Meter
from coppice_pruner.training import evaluate
from tests.bench.engine import cases, ours, peers
from tests.bench.engine.measured import parameters

CASE = cases.case(
    "vgg-shapes100, twice as wide", "vgg", {"widths": [[64, 64], [128, 128], [256, 256]], "classes": 100},
    "shapes100", 12, "0.004", batch_size=128,
)  # fmt: skip
SEED = 0
BATCH_SIZE = 2048
"""Large enough that kernels, not launching them, take the dense model's time."""
MODE = ours.Mode("Knapsack", batch_size=BATCH_SIZE)
EFFORT = ours.Effort(max_iterations=6, fine_tune_epochs=2, window_seconds=1.0)
QUICK = ours.Effort(max_iterations=1, fine_tune_epochs=1, window_seconds=0.5, dense_epochs_share=0.1)
_ROUNDS = 5
_PAIRS = 2
_WINDOW_SECONDS = 1.5


def bench(meter: Meter, device: torch.device, quick: bool) -> dict[str, Any]:
    """Return a row for each method, energies measured by the GPU's counter."""
    effort = QUICK if quick else EFFORT
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch)
        dense, data = cases.dense(_case(effort), SEED, kept, device=device)
        base = evaluate(dense.module, data.evaluation, data.task)
        print(f"    dense: {base.accuracy_ratio:.2%}", flush=True)
        begin = time.monotonic()
        with ProcessPoolExecutor(len(peers.SETTINGS), mp_context=multiprocessing.get_context("spawn")) as pool:
            work = functools.partial(_peer, kept, device.type, quick)
            pruned = dict(zip(peers.SETTINGS, pool.map(work, peers.SETTINGS), strict=True))
        print(f"    Torch-Pruning's settings after {time.monotonic() - begin:.0f} s", flush=True)
        modules = {name: torch.load(path, weights_only=False).to(device) for name, path in pruned.items()}
        begin = time.monotonic()
        config = ours.config_of(CASE, SEED, effort, kept / "work", MODE)
        # What the loop says at its end is measured again below, beside the others.
        config = config.model_copy(update={"measurement": config.measurement.model_copy(update={"pairs": _PAIRS})})
        result, journal = ours.prune(dense, data, config, meter, device)
        modules["knapsack"] = result.model.module
        print(f"    Knapsack after {time.monotonic() - begin:.0f} s", flush=True)
        steps = [
            [
                item.number, item.accepted, item.accuracy_ratio, item.energy_reduction_ratio,
                item.predicted_reduction_ratio,
            ]
            for item in result.iterations
        ]  # fmt: skip
        samples = data.evaluation.take(slice(BATCH_SIZE)).inputs
        readings = interleaved(
            [model_workload(folded(module, samples), samples) for module in (dense.module, *modules.values())], meter,
            rounds=2 if quick else _ROUNDS, window_seconds=_WINDOW_SECONDS, min_ticks=FEW_TICKS,
        )  # fmt: skip
        rows: list[dict[str, Any]] = []
        for (name, module), found in zip((("dense", dense.module), *modules.items()), readings, strict=True):
            comparison = of_readings(readings[0], found)
            mean = average(found)
            rows.append(
                {
                    "method": name, "seed": SEED, "accuracy_dense": base.accuracy_ratio,
                    "accuracy": evaluate(module, data.evaluation, data.task).accuracy_ratio,
                    "energy_joules": mean.energy_joules, "power_watts": mean.power_watts,
                    "latency_seconds": mean.latency_seconds, "parameters": parameters(module),
                    "energy_reduction_ratio": comparison.energy_reduction_ratio,
                    "energy_reduction_interval": list(comparison.energy_reduction_interval),
                    "provenance": meter.provenance.value,
                }
            )  # fmt: skip
            print(f"    {rows[-1]}", flush=True)
    return {
        "model": CASE.name, "dataset": CASE.dataset, "batch_size": BATCH_SIZE, "effort": vars(effort),
        "budget_points": ours.BUDGET_POINTS, "rows": rows, "steps": steps,
        "phase_seconds": journal.phase_seconds,
        "meter_check_ratio": result.meter_check.ratio if result.meter_check else None,
        "single_energy_reduction": None if result.single is None else [
            result.single.energy_reduction_ratio, *result.single.energy_reduction_interval,
        ],
        "layer_error_ratio": result.layer_error_ratio, "model_error_ratio": result.model_error_ratio,
    }  # fmt: skip


def _case(effort: ours.Effort) -> cases.Case:
    return cases.shortened(CASE, effort.dense_epochs_share)


def _peer(kept: Path, kind: str, quick: bool, setting: str) -> str:
    """Prune with one setting of the library in a process of its own, and leave the model."""
    torch.set_num_threads(1)
    device = torch.device(kind)
    effort = QUICK if quick else EFFORT
    dense, data = cases.dense(_case(effort), SEED, kept, device=device)
    config = ours.config_of(CASE, SEED, effort, kept / f"work-{setting}", MODE)
    module, _ = peers.prune_with(peers.SETTINGS[setting], dense.module, data, config)
    path = kept / f"{setting}.pt"
    # A pickle, since the library leaves models that no plan describes; it never leaves this machine.
    torch.save(module.cpu(), path)
    return str(path)
