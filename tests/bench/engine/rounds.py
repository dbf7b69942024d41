"""One round: a case, a seed, a method; pruned, and its model kept. `measured` compares the models when all is quiet."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coppice_api.bundle import PruningStep
from coppice_pruner.data import Splits
from coppice_pruner.meters.estimate import open_estimate
from coppice_pruner.models import LoadedModel
from coppice_pruner.surgery import apply_plan
from coppice_pruner.training import evaluate, fine_tune
from tests.bench.engine import cases, ours, peers
from tests.bench.machine import machine

SCRATCH = "scratch"
"""The network that Knapsack arrived at, with new weights, trained like a dense one for as long as it had in all."""
_OURS = ("knapsack", "knapsack_single")
COMPARED = ("dense", *_OURS, *peers.SETTINGS)
"""For all seeds before the others: an interrupted benchmark has said the most by then."""
METHODS = (*COMPARED, *(mode for mode in ours.MODES if mode not in _OURS), *peers.PLAIN, SCRATCH)


@dataclasses.dataclass(frozen=True)
class Round:
    """What is to be done."""

    case: str
    seed: int
    method: str
    quick: bool

    @property
    def differs(self) -> bool:
        """Whether it is no other round again: where fine-tunings are brief, all keep steps only within the budget."""
        return self.method not in peers.PLAIN or not (self.quick or self.case == cases.BRIEF)

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.case}-{self.seed}-{self.method}{'-quick' if self.quick else ''}"


def run(task: Round, directory: Path) -> dict[str, Any]:
    """Return the row of a round; one that was done before is read again.

    Args:
        task: What to do.
        directory: Holds dense weights and the rows of finished rounds, so that an interrupted benchmark goes on.
    """
    path = _path(task, directory)
    if path.is_file():
        row: dict[str, Any] = json.loads(path.read_text())
        return row
    torch.set_num_threads(1)
    row = _row(task, directory)
    write(path, row)
    return row


def finished(task: Round, directory: Path) -> bool:
    """Return whether a round was done before."""
    return _path(task, directory).is_file()


def _from_scratch(task: Round, dense: LoadedModel, data: Splits, effort: ours.Effort, directory: Path) -> nn.Module:
    knapsack = dataclasses.replace(task, method="knapsack")
    spent = run(knapsack, directory)["fine_tunings"]
    plan = [PruningStep.model_validate(step) for step in json.loads(_plan_path(knapsack, directory).read_text())]
    module = copy.deepcopy(apply_plan(dense.module, dense.example_inputs(), plan))
    torch.manual_seed(task.seed)
    for layer in module.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    case = _case(task.case, task.quick)
    epochs = case.epochs + spent * effort.fine_tune_epochs
    fine_tune(module, data, case.settings(epochs), seed=task.seed)
    return module


def _plan_path(task: Round, directory: Path) -> Path:
    return directory / "plans" / f"{task.name}.json"


def write(path: Path, content: Any) -> None:
    """Write JSON so that it is there in whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(content))
    aside.rename(path)


def _path(task: Round, directory: Path) -> Path:
    return directory / "rounds" / f"{task.name}.json"


def train(case: str, seed: int, quick: bool, directory: Path) -> None:
    """Train the dense model of a case and leave its weights."""
    torch.set_num_threads(1)
    dense_of(case, seed, quick, directory)


def _case(name: str, quick: bool) -> cases.Case:
    return cases.shortened(cases.CASES[name], ours.QUICK.dense_epochs_share if quick else 1.0)


def dense_of(case: str, seed: int, quick: bool, directory: Path) -> tuple[LoadedModel, Splits]:
    """Return the dense model of a case, trained if nobody has yet, and its data."""
    kept = directory / ("dense-quick" if quick else "dense")
    return cases.dense(_case(case, quick), seed, kept, train_share=(ours.QUICK if quick else ours.FULL).train_share)


def _row(task: Round, directory: Path) -> dict[str, Any]:
    effort = ours.QUICK if task.quick else ours.FULL
    dense, data = dense_of(task.case, task.seed, task.quick, directory)
    base = evaluate(dense.module, data.evaluation, data.task)
    meter = open_estimate()
    mode = ours.MODES.get(task.method, ours.MODES["knapsack"])
    config = ours.config_of(cases.CASES[task.case], task.seed, effort, directory / "work" / task.name, mode)
    module, extra = dense.module, dict[str, Any]()
    begin = time.monotonic()
    if task.method in ours.MODES:
        result, journal = ours.prune(dense, data, config, meter)
        module = result.model.module
        extra = {
            "phase_seconds": {name: round(value, 2) for name, value in journal.phase_seconds.items()},
            "steps": [
                [item.number, item.accepted, item.accuracy_ratio, item.energy_reduction_ratio]
                for item in result.iterations
            ],
            "fine_tunings": sum(item.fine_tunings for item in result.iterations),
        }  # fmt: skip
        write(_plan_path(task, directory), [step.model_dump() for step in result.model.pruning_plan])
    elif setting := (peers.SETTINGS | peers.PLAIN).get(task.method):
        module, spent = peers.prune_with(setting, dense.module, data, config)
        extra = {"fine_tunings": spent}
    elif task.method == SCRATCH:
        module = _from_scratch(task, dense, data, effort, directory)
    seconds = time.monotonic() - begin
    found = evaluate(module, data.evaluation, data.task)
    row = {
        "model": task.case, "dataset": cases.CASES[task.case].dataset, "method": task.method, "seed": task.seed,
        "accuracy_dense": base.accuracy_ratio, "accuracy": found.accuracy_ratio,
        "provenance": meter.provenance.value, "seconds": round(seconds, 1), "commit": machine()["commit"],
        "memory_reduction_ratio": 1 - _bytes(module) / _bytes(dense.module), **extra,
    }  # fmt: skip
    path = model_path(task, directory)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A pickle, since the library leaves models that no plan describes; it never leaves this machine.
    torch.save(module, path)
    return row


def model_path(task: Round, directory: Path) -> Path:
    """Return where a round leaves its model."""
    return directory / "models" / f"{task.name}.pt"


def _bytes(module: nn.Module) -> int:
    return sum(item.numel() * item.element_size() for item in (*module.parameters(), *module.buffers()))
