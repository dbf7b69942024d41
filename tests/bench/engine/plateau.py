"""How much of a method's lead is the network it chose? Networks of one predicted energy, fine-tuned alike.

Three samples of runs from the same dense model: the network that Knapsack proposes, with other orders of the training
samples; the same widths with channels drawn at random; and widths drawn at random, with the channels of most saliency.
Where the three are as far apart as the first is within itself, what a method saves is fine-tuning and luck.
"""

from __future__ import annotations

import math
import multiprocessing
import random
import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coppice_pruner.allocation import AllocationContext, Kept, Knapsack
from coppice_pruner.meters.estimate import open_estimate
from coppice_pruner.profiling import CostModel
from coppice_pruner.run.context import allocation_context
from coppice_pruner.run.journal import Journal
from coppice_pruner.run.loop import CPU_MULTIPLE, MIN_WIDTH, Loop
from coppice_pruner.surgery import Blueprint, find_groups
from coppice_pruner.training import Teacher, evaluate, fine_tune
from tests.bench.engine import cases, ours, rounds

CASES = ("vgg-shapes100", "resnet-shapes100")
SEED = 0
CUT = 0.55
"""Share of the dense model's predicted energy that every network lacks: what one cut may take of these models."""
_NEARLY, _TRIES = 0.01, 20_000
_KINDS = ("knapsack", "random_channels", "random_widths")


def bench(quick: bool, directory: Path) -> dict[str, Any]:
    """Return the accuracies of each kind of network, by model, and what they lack of the dense model's energy.

    Args:
        quick: Few runs of little effort.
        directory: Where trained dense models are kept.
    """
    runs = 2 if quick else 6
    costs = {case: _costs(case, quick, directory) for case in CASES}
    tasks = [
        (case, kind, run, quick, costs[case], directory) for case in CASES for kind in _KINDS for run in range(runs)
    ]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_run, *zip(*tasks, strict=True)))
    result: dict[str, Any] = {"cut": CUT, "epochs": _effort(quick).fine_tune_epochs * 2, "provenance": "Estimated"}
    for (case, kind, *_), figures in zip(tasks, found, strict=True):
        result.setdefault(case, {}).setdefault(kind, []).append(figures)
    return result


def table(result: dict[str, Any]) -> str:
    """Return mean, standard deviation and range of each kind's accuracies."""
    lines = [
        "| model | network | runs | accuracy, mean | standard deviation | range |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    titles = dict(zip(_KINDS, ("Knapsack's", "its widths, random channels", "random widths"), strict=True))
    for case in CASES:
        for kind in _KINDS:
            accuracies = [run["accuracy_ratio"] for run in result[case][kind]]
            lines.append(
                f"| {case} | {titles[kind]} | {len(accuracies)} | {statistics.fmean(accuracies):.2%} | "
                f"{100 * statistics.stdev(accuracies):.2f} points | {min(accuracies):.2%} to {max(accuracies):.2%} |"
            )
    return "\n".join(lines)


def _effort(quick: bool) -> ours.Effort:
    return ours.QUICK if quick else ours.FULL


def _costs(case: str, quick: bool, directory: Path) -> CostModel:
    """Return what the dense model costs at other widths."""
    dense, data = rounds.dense_of(case, SEED, quick, directory)
    with tempfile.TemporaryDirectory() as work:
        config = ours.config_of(cases.CASES[case], SEED, _effort(quick), Path(work))
        return Loop(dense, data, open_estimate(), config, Journal(1), torch.device("cpu")).baseline().cost_model


def _run(case: str, kind: str, run: int, quick: bool, costs: CostModel, directory: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    dense, data = rounds.dense_of(case, SEED, quick, directory)
    samples = dense.example_inputs()
    blueprint = Blueprint(find_groups(dense.module, samples), samples)
    algorithm = ours.config_of(cases.CASES[case], SEED, _effort(quick), directory).algorithm
    allocator = Knapsack()
    context = allocation_context(
        dense.module, blueprint.groups, costs, data, allocator,
        seed=SEED, multiple=CPU_MULTIPLE, min_width=MIN_WIDTH, dropped=frozenset(),
    )  # fmt: skip
    generator = random.Random(run)
    kept = _random_widths(context, generator) if kind == "random_widths" else allocator.propose(context, CUT)
    if kind == "random_channels":
        kept = {name: tuple(sorted(generator.sample(range(context.group(name).width), len(stays))))
                for name, stays in kept.items()}  # fmt: skip
    model: nn.Module = blueprint.prune(dense.module, {}, kept)
    teacher = Teacher(dense.module, data.train)
    for again in range(2):
        fine_tune(model, data, algorithm.fine_tune, seed=SEED + 1 + 2 * run + again, teacher=teacher)
    widths = context.widths | {name: len(stays) for name, stays in kept.items()}
    return {
        "accuracy_ratio": evaluate(model, data.evaluation, data.task).accuracy_ratio,
        "predicted_reduction_ratio": 1.0 - costs.predict(widths) / costs.predict(context.widths),
        "widths": list(widths.values()),
    }


def _random_widths(context: AllocationContext, generator: random.Random) -> Kept:
    """Return channels of most saliency for widths within a factor of two of each other's share, of the energy asked."""
    joules = context.energy.predict(context.widths)
    for widths in _draws(context, generator):
        if abs(1.0 - context.energy.predict(widths) / joules - CUT) < _NEARLY:
            return context.kept(widths)
    raise AssertionError(f"none of {_TRIES} draws saves {CUT:.0%}")


def _draws(context: AllocationContext, generator: random.Random) -> Iterator[dict[str, int]]:
    for _ in range(_TRIES):
        share = generator.uniform(0.2, 0.9)
        yield {
            group.name: min(context.choices(group), key=lambda width, wanted=wanted: abs(width - wanted))
            for group in context.groups
            for wanted in (group.width * share * math.sqrt(2) ** generator.uniform(-1, 1),)
        }
