"""docs/benchmarks/gpu.md from the parts that were measured; nothing in it is typed in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coppice_pruner.estimator import load_device
from tests.bench.engine.document import TITLES

_TRAINS = ("FineTuning", "Evaluating")


def write(directory: Path, documents: Path) -> None:
    """Write the page and its data.

    Args:
        directory: Holds what parts of the benchmark left.
        documents: Of the site.
    """
    parts = {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}
    documents.mkdir(parents=True, exist_ok=True)
    (documents / "gpu.json").write_text(json.dumps(parts, indent=1) + "\n")
    text = [
        "# On a real GPU\n",
        "Written by `make bench-gpu` on a machine with an NVIDIA GPU, then `PARTS= DOCUMENT=1 make bench-gpu` "
        "anywhere. Energies are **measured** by the GPU's own counter (NVML) unless a column says predicted.\n",
    ]
    if "prediction" in parts:
        text += _prediction(parts["prediction"])
    if "pruning" in parts:
        text += _pruning(parts["pruning"])
    (documents / "gpu.md").write_text("\n".join(text) + "\n")


def _about(part: dict[str, Any]) -> str:
    about = part["about"]
    return (
        f"{about['gpu']}, {about['machine']['cores']} cores of {about['machine']['cpu']}, torch {about['torch']}, "
        f"commit {about['machine']['commit']}, {about['machine']['time']}; the counter moves every "
        f"{1000 * about['counter_update_period_seconds']:.0f} ms.\n"
    )


def _prediction(part: dict[str, Any]) -> list[str]:
    lines = [
        "## What `coppice predict --device h100` is worth\n",
        _about(part),
        "Published models at 224 pixels, float32 with PyTorch's defaults, norms folded, queued back to back. The "
        "profile was calibrated before, on another host with such a GPU, with single operators and with small models "
        "of Coppice's own; it has seen none of these.\n",
        "| model | batch | measured ms | predicted | off by | measured mJ an inference | predicted | off by |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in part["rows"]:
        seconds, joules = row["predicted_seconds"], row["predicted_joules"]
        lines.append(
            f"| {row['model']} | {row['batch']} | {1e3 * row['seconds']:.2f} | {1e3 * seconds:.2f} | "
            f"{seconds / row['seconds'] - 1:+.1%} | {1e3 * row['joules']:.1f} | {1e3 * joules:.1f} | "
            f"{joules / row['joules'] - 1:+.1%} |"
        )
    fit = load_device("h100").fit
    return [
        *lines,
        f"\nMedian error: time {part['seconds_median_error_ratio']:.1%}, energy "
        f"{part['joules_median_error_ratio']:.1%}. On models left out of its own fit the profile is off by "
        f"{fit['cross_validated_median_error_ratio']:.1%} and "
        f"{fit['cross_validated_energy_median_error_ratio']:.1%}. At batch 1 the GPU waits for the host, and hosts "
        "differ: the one that the profile was fitted on launches more slowly than this one.\n",
    ]


def _pruning(part: dict[str, Any]) -> list[str]:
    phases = part["phase_seconds"]
    share = sum(phases.get(name, 0.0) for name in _TRAINS) / sum(phases.values())
    rows = sorted(part["rows"], key=lambda row: row["energy_reduction_ratio"])
    best = max((row for row in rows if row["method"].startswith("tp_")), key=lambda row: row["energy_reduction_ratio"])
    ours = next(row for row in rows if row["method"] == "knapsack")
    ahead = 100 * (ours["energy_reduction_ratio"] - best["energy_reduction_ratio"])
    single = part["single_energy_reduction"]
    lines = [
        f"## {part['model']}, pruned by measured joules\n",
        _about(part),
        f"Batches of {part['batch_size']}, at most {part['budget_points']} points lost, at most "
        f"{part['effort']['max_iterations']} steps with {part['effort']['fine_tune_epochs']} epochs of the same "
        "fine-tuning each, **one seed**. All models measured in turn, with norms folded; intervals are 95 %.\n",
        "| method | accuracy | energy saved | W | ms a batch | parameters |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        low, high = row["energy_reduction_interval"]
        lines.append(
            f"| {TITLES[row['method']]} | {row['accuracy']:.2%} | {row['energy_reduction_ratio']:.1%} "
            f"[{low:.1%}, {high:.1%}] | {row['power_watts']:.0f} | {1e3 * row['latency_seconds']:.2f} | "
            f"{row['parameters']:,} |"
        )
    return [
        *lines,
        f"\nAgainst Torch-Pruning's best setting Knapsack saves {ahead:+.1f} points here. At batch 1, where the GPU "
        "waits "
        + (
            f"for the host, it saves {single[0]:.1%} [{single[1]:.1%}, {single[2]:.1%}].\n"
            if single
            else "for the host.\n"
        ),
        f"The cost model was off by {part['layer_error_ratio']:.1%} for the median layer and by "
        f"{part['model_error_ratio']:.1%} for the whole model. The counter over integrated power: "
        f"{part['meter_check_ratio']:.3f}.\n",
        f"{share:.0%} of Knapsack's time was fine-tuning and evaluation: this network trains in seconds, and windows "
        "of a counter that moves ten times a second take "
        f"{phases['Measuring'] + phases['Baseline'] + phases['Profiling']:.0f} s whatever the model. Runs whose "
        "fine-tuning takes minutes do not notice.\n",
    ]
