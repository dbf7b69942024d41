"""Coppice's own allocations and the paper's rows, through the product's loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from coppice_api.contract import run_config
from coppice_api.prunejob import PruneJob
from coppice_api.run import RunConfig
from coppice_pruner.data import Splits
from coppice_pruner.meters import Meter
from coppice_pruner.models import LoadedModel
from coppice_pruner.run.journal import Journal
from coppice_pruner.run.loop import Loop, LoopResult
from tests.bench.engine.cases import Case
from tests.builders import prune_job

BUDGET_POINTS = "0.5"
OUT_OF_REACH_PERCENT = 95
"""The question is how far each method gets within the budget."""
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Effort:
    """What every method of a round is given alike."""

    max_iterations: int
    fine_tune_epochs: int
    window_seconds: float
    dense_epochs_share: float = 1.0
    train_share: float = 1.0


QUICK = Effort(max_iterations=2, fine_tune_epochs=1, window_seconds=0.3, dense_epochs_share=0.6, train_share=0.4)
FULL = Effort(max_iterations=6, fine_tune_epochs=2, window_seconds=1.0)


@dataclass(frozen=True)
class Mode:
    """One of our allocations."""

    allocation: str
    alpha: str = "0.6"
    beta: str = "0.4"
    batch_size: int = 32
    """Of the measurements that steer it."""


MODES = {
    # Equation 3 as printed, with the weights of Table 1's rows.
    "paper": Mode("Paper"),
    "beta0": Mode("Paper", beta="0"),
    "alpha0": Mode("Paper", alpha="0"),
    "magnitude": Mode("Magnitude"),
    "paper_corrected": Mode("PaperCorrected"),
    "per_joule": Mode("PerJoule"),
    "knapsack": Mode("Knapsack"),
    "knapsack_single": Mode("Knapsack", batch_size=1),
}


def config_of(case: Case, seed: int, effort: Effort, work: Path, mode: Mode = MODES["knapsack"]) -> RunConfig:
    """Return the run contract of one method; peers take the budget, the iterations and the fine-tuning from it."""
    document = prune_job(
        model__uri="file:///unused", dataset__uri=case.dataset, output__uri=f"file://{work}",
        objective__energyReductionPercent=OUT_OF_REACH_PERCENT, objective__maxAccuracyDropPoints=BUDGET_POINTS,
        algorithm__allocation=mode.allocation, algorithm__alpha=mode.alpha, algorithm__beta=mode.beta,
        algorithm__seed=seed, algorithm__maxIterations=effort.max_iterations,
        algorithm__fineTune__epochs=effort.fine_tune_epochs, algorithm__fineTune__learningRate=case.learning_rate,
        algorithm__fineTune__batchSize=case.batch_size,
        measurement__meter="Estimate", measurement__minimumProvenance="Estimated", measurement__windowSeconds=1,
        measurement__batchSize=mode.batch_size,
    )  # fmt: skip
    spec = PruneJob.model_validate(document).spec
    config = run_config(spec, spec.hardware[0], namespace="bench", name=case.name, claim_mounts={})
    # Shorter than the API allows: the benchmark measures each result again, in full.
    measurement = config.measurement.model_copy(update={"window_seconds": effort.window_seconds})
    return config.model_copy(update={"measurement": measurement, "work_directory": str(work)})


def prune(
    dense: LoadedModel, data: Splits, config: RunConfig, meter: Meter, device: torch.device = _CPU
) -> tuple[LoopResult, Journal]:
    """Return what the loop arrived at, and its journal."""
    journal = Journal(config.algorithm.max_iterations)
    loop = Loop(dense, data, meter, config, journal, device)
    baseline = loop.baseline()
    return loop.run(baseline, loop.start(baseline)), journal
