"""Energy saved on the digits by each allocation, at the same accuracy budget and the same fine-tuning.

Allocations take turns within a seed, so that a machine that is slower for a while is slower for all. Energy is
estimated from CPU time; each figure is the run's own interleaved comparison with its interval.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from coppice_api.contract import run_config
from coppice_api.prunejob import PruneJob
from coppice_pruner.run import Journal, execute
from tests.builders import prune_job

ALLOCATIONS = ("Knapsack", "PerJoule", "PaperCorrected", "Magnitude", "Uniform", "Paper")
SEEDS = (0, 1, 2)
MAX_ITERATIONS = 10


def bench(quick: bool) -> dict[str, Any]:
    """Return one record for each run."""
    from digits.train import train

    with tempfile.TemporaryDirectory() as directory:
        dense = f"file://{directory}/dense"
        train(dense, {})
        runs = [
            _run(Path(directory), dense, allocation, seed)
            for seed in (SEEDS[:1] if quick else SEEDS)
            for allocation in (ALLOCATIONS[:1] if quick else ALLOCATIONS)
        ]
    return {"model": "coppice://vgg", "dataset": "builtin://digits", "runs": runs}


def _run(directory: Path, dense: str, allocation: str, seed: int) -> dict[str, Any]:
    document = prune_job(
        model__uri=dense, output__uri=f"file://{directory}/runs/{allocation}-{seed}",
        # Out of reach: the question is how far each gets within the budget.
        objective__energyReductionPercent=95, objective__maxAccuracyDropPoints="0.5",
        algorithm__allocation=allocation, algorithm__seed=seed, algorithm__maxIterations=MAX_ITERATIONS,
        algorithm__fineTune__epochs=3,
        measurement__meter="Estimate", measurement__minimumProvenance="Estimated", measurement__windowSeconds=1,
    )  # fmt: skip
    spec = PruneJob.model_validate(document).spec
    config = run_config(spec, spec.hardware[0], namespace="bench", name="digits", claim_mounts={})
    config = config.model_copy(update={"work_directory": str(directory / "work")})
    report = execute(config, Journal(MAX_ITERATIONS))
    print(f"    seed {seed} {allocation}: {report.message}", flush=True)
    return {
        "allocation": allocation,
        "seed": seed,
        "provenance": report.provenance,
        "energy_reduction_ratio": report.energy_reduction_ratio,
        "energy_reduction_interval": report.energy_reduction_interval,
        "dense_accuracy_ratio": report.dense.accuracy_ratio if report.dense else None,
        "accuracy_ratio": report.pruned.accuracy_ratio if report.pruned else None,
        "memory_reduction_ratio": report.memory_reduction_ratio,
        "iterations": report.iterations,
        "rollbacks": report.rollbacks,
        "run_energy_joules": report.run_energy_joules,
        "seconds": report.duration_seconds,
    }
