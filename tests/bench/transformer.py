"""What a pruning iteration of a 12-layer transformer costs besides training: seconds on one core, and peak memory.

`python -m tests.bench.transformer [--quick]`. The model is BERT's architecture with random weights, of BERT-base's
sizes or, quick, a third of them; the text is real (builtin://topics). Memory is the peak resident size of processes of
their own: one trains the dense model, one runs the loop for one iteration with the same batch, distillation included.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_api.prunejob import FineTune, MeterKind, MinimumProvenance
from coppice_pruner.allocation import AllocationContext, Kept, Knapsack
from coppice_pruner.data import Splits, topics
from coppice_pruner.meters import select_meter
from coppice_pruner.models import LoadedModel, build
from coppice_pruner.run.context import allocation_context
from coppice_pruner.run.journal import Journal
from coppice_pruner.run.loop import Loop
from coppice_pruner.surgery import Blueprint
from coppice_pruner.training import fine_tune
from tests import machine
from tests.bench.process import peak_rss_bytes

MAX_SECONDS = 10.0
"""Demand: dependency graph, allocation and surgery of one iteration, on one core."""
MAX_MEMORY_RATIO = 2.2
"""Demand: peak memory of an iteration over that of training the dense model."""
LAYERS = 12
BATCH_SIZE = 16


def bench(quick: bool) -> dict[str, Any]:
    """Return the figures, each demand with whether it is met."""
    seconds = _in_process("seconds", quick)
    imports, dense, pruning = (
        _in_process(what, quick)["peak_memory_bytes"] for what in ("imports", "dense", "pruning")
    )
    ratio = pruning / dense
    return {
        "model": {"layers": LAYERS, **_sizes(quick)},
        "seconds": seconds,
        "seconds_demanded": MAX_SECONDS,
        "seconds_met": seconds["total"] <= MAX_SECONDS,
        "peak_memory_bytes": {"imports": imports, "dense_training": dense, "pruning_iteration": pruning},
        "memory_ratio": ratio,
        "memory_ratio_without_imports": (pruning - imports) / (dense - imports),
        "memory_ratio_demanded": MAX_MEMORY_RATIO,
        "memory_met": ratio <= MAX_MEMORY_RATIO,
    }


def _sizes(quick: bool) -> dict[str, int]:
    hidden = 256 if quick else 768
    return {"hidden_size": hidden, "num_attention_heads": hidden // 64, "intermediate_size": 4 * hidden}


def _dense(quick: bool) -> tuple[LoadedModel, Splits]:
    torch.manual_seed(0)
    data = topics()
    data = Splits(
        data.train.take(slice(2 * BATCH_SIZE)), data.evaluation.take(slice(BATCH_SIZE)), data.classes, data.task
    )
    config = {
        "model_type": "bert", "architectures": ["BertForSequenceClassification"], "num_hidden_layers": LAYERS,
        "num_labels": len(data.classes), **_sizes(quick),
    }  # fmt: skip
    source = ArchitectureSource(source="transformers://text-classification", arguments={"config": config})
    inputs = tuple(
        InputSpec(name=name, shape=tuple(item.shape[1:]), dtype="int64", high=high)
        for name, item, high in zip(("input_ids", "attention_mask"), data.train.inputs, (30522, None), strict=True)
    )
    return LoadedModel(build(source), source, inputs, data.classes, task=data.task.name), data


def _loop(quick: bool, directory: Path) -> Loop:
    dense, data = _dense(quick)
    meter = select_meter(MeterKind.ESTIMATE, MinimumProvenance.ESTIMATED, cuda=False)
    config = machine.config(
        directory, objective__energyReductionPercent=90, objective__maxAccuracyDropPoints="100",
        measurement__batchSize=2, algorithm__maxIterations=1, algorithm__fineTune__epochs=1,
        algorithm__fineTune__batchSize=BATCH_SIZE,
    )  # fmt: skip
    return Loop(dense, data, meter, config, Journal(1), torch.device("cpu"))


def _seconds(quick: bool) -> dict[str, float]:
    """Return CPU seconds of each part of one iteration; scoring channels is passes over data and stands apart."""
    from coppice_pruner.run import loop as module

    spent: dict[str, float] = {}

    def timed(owner: Any, name: str, part: str) -> None:
        work = getattr(owner, name)

        def wrapper(*arguments: Any, **options: Any) -> Any:
            begin = time.process_time()
            try:
                return work(*arguments, **options)
            finally:
                spent[part] = spent.get(part, 0.0) + time.process_time() - begin

        setattr(owner, name, wrapper)

    def scored(*arguments: Any, **options: Any) -> AllocationContext:
        context = allocation_context(*arguments, **options)
        moved = context.moved
        assert moved is not None

        def measured(networks: Sequence[Kept]) -> Sequence[float]:
            begin = time.process_time()
            try:
                return moved(networks)
            finally:
                # Passes over data too, though the allocation asks for them.
                for part, sign in (("saliency", 1), ("allocation", -1)):
                    spent[part] = spent.get(part, 0.0) + sign * (time.process_time() - begin)

        return dataclasses.replace(context, moved=measured)

    timed(module, "find_groups", "dependency_graph")
    module.allocation_context = scored  # type: ignore[attr-defined]
    timed(module, "allocation_context", "saliency")
    timed(Knapsack, "propose", "allocation")
    timed(Blueprint, "prune", "surgery")
    timed(Blueprint, "check", "check")
    with tempfile.TemporaryDirectory() as directory:
        loop = _loop(quick, Path(directory))
        baseline = loop.baseline()
        result = loop.run(baseline, loop.start(baseline))
    assert len(result.iterations) == 1
    return {**spent, "total": sum(seconds for part, seconds in spent.items() if part != "saliency")}


def _work(what: str, quick: bool) -> dict[str, float]:
    torch.set_num_threads(1)
    if what == "seconds":
        return _seconds(quick)
    if what == "dense":
        dense, data = _dense(quick)
        fine_tune(dense.module, data, FineTune(epochs=1, batch_size=BATCH_SIZE), seed=0)
    if what == "pruning":
        with tempfile.TemporaryDirectory() as directory:
            loop = _loop(quick, Path(directory))
            baseline = loop.baseline()
            result = loop.run(baseline, loop.start(baseline))
        assert result.iterations[0].accepted, result.iterations[0].reason
    return {"peak_memory_bytes": peak_rss_bytes(os.getpid())}


def _in_process(what: str, quick: bool) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.bench.transformer", "--part", what]
        + (["--quick"] if quick else []),
        stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.transformer", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of BERT-base's width")
    parser.add_argument("--part", choices=("seconds", "imports", "dense", "pruning"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    result = _work(options.part, options.quick) if options.part else bench(options.quick)
    print(json.dumps(result, indent=None if options.part else 2))


if __name__ == "__main__":
    main()
