"""What every round's model saves: compared with its dense model, in interleaved windows, one process at a time.

Apart from pruning, which keeps every core busy: beside a neighbour that wants the same cache the larger model loses
more, and pruning would look better than it is.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coppice_pruner.data import Splits
from coppice_pruner.deployment import folded
from coppice_pruner.measurement import Comparison, average, compare, model_workload, one_thread
from coppice_pruner.meters.estimate import cpu_name, open_estimate
from tests.bench.engine import rounds

BATCH_SIZE = 32
_ZERO: dict[str, Any] = {"energy_reduction_ratio": 0.0, "energy_reduction_interval": [0.0, 0.0]}
_NOTHING = {**_ZERO, "latency_speedup_ratio": 1.0, "carbon_reduction_ratio": 0.0, "single": _ZERO}
_PAIRS, _WINDOW_SECONDS, _QUICK_PAIRS, _QUICK_WINDOW_SECONDS = 9, 0.4, 5, 0.15


def measure(task: rounds.Round, directory: Path) -> dict[str, Any]:
    """Return what a finished round's model saves; a round that was measured before is read again."""
    path = directory / "measured" / f"{task.name}.json"
    if path.is_file():
        figures: dict[str, Any] = json.loads(path.read_text())
        return figures
    if task.method == "dense":
        return _NOTHING
    dense, data = _dense(task.case, task.seed, task.quick, directory)
    pruned: nn.Module = torch.load(rounds.model_path(task, directory), weights_only=False)
    if parameters(pruned) == parameters(dense.module):
        # No step was kept: it is the dense model, and two readings of it would differ by noise alone.
        return _NOTHING
    many = _compare(dense.module, pruned.eval(), data, BATCH_SIZE, quick=task.quick)
    figures = {
        **_saved(many),
        "latency_speedup_ratio": average(many.dense).latency_seconds / average(many.pruned).latency_seconds,
        # The same electricity runs both.
        "carbon_reduction_ratio": many.energy_reduction_ratio,
        "cpu": f"{cpu_name()} with {torch.backends.cpu.get_cpu_capability()}",
        "single": _saved(_compare(dense.module, pruned, data, 1, quick=task.quick)),
    }
    rounds.write(path, figures)
    return figures


_dense = functools.lru_cache(maxsize=4)(rounds.dense_of)


def _compare(dense: nn.Module, pruned: nn.Module, data: Splits, batch_size: int, *, quick: bool) -> Comparison:
    samples = data.evaluation.take(slice(batch_size)).inputs
    with one_thread():
        return compare(
            model_workload(folded(dense, samples), samples), model_workload(folded(pruned, samples), samples),
            open_estimate(), pairs=_QUICK_PAIRS if quick else _PAIRS,
            window_seconds=_QUICK_WINDOW_SECONDS if quick else _WINDOW_SECONDS,
        )  # fmt: skip


def _saved(comparison: Comparison) -> dict[str, Any]:
    return {
        "energy_reduction_ratio": comparison.energy_reduction_ratio,
        "energy_reduction_interval": list(comparison.energy_reduction_interval),
    }


def parameters(module: nn.Module) -> int:
    """Return how many weights a module has."""
    return sum(item.numel() for item in module.parameters())
