"""docs/benchmarks/engine.md and its pictures, from the figures of a run; nothing in them is typed in."""

from __future__ import annotations

import html
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coppice_pruner.run.history import History
from tests.bench.engine import cases, claims, ours, peers, plateau, rounds

Row = dict[str, Any]
TITLES = {
    "dense": "dense", "magnitude": "magnitude, global L2", "beta0": "paper, beta = 0", "alpha0": "paper, alpha = 0",
    "paper": "paper, equation 3 as printed", "paper_corrected": "PaperCorrected", "per_joule": "PerJoule",
    "knapsack": "**Knapsack**", "knapsack_single": "**Knapsack**, steered at batch 1",
    "tp_uniform": "Torch-Pruning uniform L2", "tp_global": "Torch-Pruning global L2",
    "scratch": "Knapsack's network from scratch",
    "tp_taylor": "Torch-Pruning global Taylor", "tp_isomorphic": "Torch-Pruning isomorphic Taylor",
}  # fmt: skip
TITLES |= {f"{name}_plain": f"{TITLES[name]}, plain" for name in peers.SETTINGS}


def table(rows: Sequence[Row]) -> str:
    """Return Markdown tables, one for each case: means over seeds, the least and greatest end of the intervals."""
    return "\n\n".join(_case_table(case, rows) for case in cases.CASES if any(row["model"] == case for row in rows))


def write(result: dict[str, Any], directory: Path) -> None:
    """Write the document, its data and its pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    rows, about = result["rows"], result["about"]
    machine, effort = about["machine"], about["effort"]
    most = History.of((), effort["max_iterations"]).most
    (directory / "engine.json").write_text(json.dumps(result, indent=1) + "\n")
    parts = [
        "# Energy saved at an accuracy budget\n",
        f"Written by `DOCUMENT=1 {about['command']}` at {machine['time']}, commit {machine['commit']}: "
        f"{machine['cpu']}, one thread a process, Python {machine['python']}, torch {about['torch']}, Torch-Pruning "
        f"{about['torch_pruning']}. Energy is **estimated** from CPU "
        "time, so only ratios mean something. "
        f"Every method may keep {effort['max_iterations']} pruning steps and has {most} "
        f"fine-tunings, of {effort['fine_tune_epochs']} epochs and the same for all, and may lose "
        f"{about['budget_points']} points; the table shows how far it came. Coppice's own allocations and "
        "Torch-Pruning's settings go by the same rules for doing one more, for taking a step back and for how large "
        "the next one is; the paper's modes, *plain* settings, and all of them on digits, whose fine-tunings are "
        "brief, keep a step only within the budget. After a step that was taken back, Knapsack and PerJoule go on from "
        "what it had learned, all others from the weights before it. Dense and pruned models are both measured with "
        "batch norm folded, in interleaved windows. Intervals are 95 %, over all seeds.\n",
        _origins(rows),
        table(rows),
    ]
    for case in cases.CASES:
        if any(row["model"] == case for row in rows):
            (directory / f"{case}.svg").write_text(picture(case, rows))
            parts.append(f"![Energy saved on {case} by each method, with intervals, as in the table]({case}.svg)")
    parts += [
        "\n## Ahead of peers?\n",
        "Torch-Pruning's best setting is chosen afterwards, model by model. At batch 1 Knapsack is steered by "
        "measurements at batch 1.\n",
        claims.peers_table(rows, peers.SETTINGS),
        "\nAhead of each setting, in points at batch 32: the mean and its interval of 95 % (Student's t over seeds), "
        "each seed, and on how many the intervals of the two measurements do not meet; then all models:\n",
        claims.leads_table(rows, peers.SETTINGS),
        "\nThese settings have Coppice's loop, whose steps may wait outside the budget until later fine-tunings bring "
        "the model back. The same settings where a step is kept only within the budget, as with a loop of one's own "
        "(*plain*), and as many fine-tunings:\n",
        claims.peers_table(rows, peers.PLAIN),
        "",
        claims.leads_table(rows, peers.PLAIN),
        "\nWhat was aimed at, before anything was measured:\n",
        claims.aims_table(rows),
        *_luck(result["plateau"]),
        "\n## What reproduces of the paper's Table 1\n",
        "The paper's models, data and GPU are not to be had, so figures need not agree; their order should. Here no "
        "setting may lose more than the budget, so what a setting would lose shows as what it does not save.\n",
        claims.paper_table(rows),
        "\n## The honest bound\n",
        "The network that Knapsack arrived at, with new weights, trained like the dense one for as many epochs as "
        "dense training and all pruning steps have together. Where it does as well, pruning found the widths, not the "
        "weights.\n",
        claims.scratch_table(rows),
        "\n## Other figures of the same run\n",
        *_figures(result),
    ]
    (directory / "engine.md").write_text("\n".join(parts) + "\n")


def _luck(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    return [
        "\n## How much of it is luck?\n",
        f"Networks that lack {found['cut']:.0%} of the dense model's predicted energy, cut from it at once and "
        f"fine-tuned for {found['epochs']} epochs: what Knapsack proposes with other orders of the training samples, "
        "its widths with channels drawn at random, and widths drawn at random. Where these are no further apart than "
        "one network is from itself, a lead is fine-tuning and luck.\n",
        plateau.table(found),
    ]


def _origins(rows: Sequence[Row]) -> str:
    """Return of which commit the rounds are and where they were run: not always all of one, nor on one machine."""
    seeds: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row["method"] != "dense":
            origin = f"Commit {row['commit']}{', ' + row['cpu'] if 'cpu' in row else ''}"
            seeds.setdefault((origin, row["model"], row["method"]), []).append(str(row["seed"]))
    found: dict[str, dict[str, list[str]]] = {}
    for (origin, model, method), of in seeds.items():
        found.setdefault(origin, {}).setdefault(f"{model}, seeds {', '.join(of)}", []).append(method)
    lines = [
        f"- {origin}: " + "; ".join(f"{where}: {', '.join(methods)}" for where, methods in rounds_there.items())
        for origin, rounds_there in found.items()
    ]
    return (
        "Rounds, each under the rules of its commit; methods are compared on the seeds that both have:\n\n"
        + "\n".join(lines)
        + "\n"
    )


def picture(case: str, rows: Sequence[Row]) -> str:
    """Return a picture of what each method saved, batch 32 and batch 1, readable on light and dark."""
    chosen = {method: _of(rows, case, method) for method in rounds.METHODS if method != "dense"}
    chosen = {method: found for method, found in chosen.items() if found}
    left, width, height = 230, 720, 28 * len(chosen) + 50

    def x(ratio: float) -> float:
        return left + max(0.0, min(1.0, ratio)) * (width - left - 20)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" '
        f'font-size="13" fill="#777"><title>Energy saved on {case}, estimated</title>'
    ]
    for tick in range(0, 101, 20):
        parts.append(
            f'<path d="M{x(tick / 100):.1f} 8V{height - 36}" stroke="#888" stroke-opacity=".3"/>'
            f'<text x="{x(tick / 100):.1f}" y="{height - 20}" text-anchor="middle">{tick} %</text>'
        )
    for place, (method, found) in enumerate(chosen.items()):
        y = 24 + 28 * place
        name = html.escape(TITLES[method].strip("*"))
        parts.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{name}</text>')
        for key, colour, shift in (("", "#0a7", -4), ("single", "#b60", 5)):
            values = [row[key] if key else row for row in found]
            mean = statistics.fmean(value["energy_reduction_ratio"] for value in values)
            low = min(value["energy_reduction_interval"][0] for value in values)
            high = max(value["energy_reduction_interval"][1] for value in values)
            parts.append(
                f'<path d="M{x(low):.1f} {y + shift}H{x(high):.1f}" stroke="{colour}" stroke-width="2"/>'
                f'<circle cx="{x(mean):.1f}" cy="{y + shift}" r="4" fill="{colour}">'
                f"<title>{name}: {mean:.1%}</title></circle>"
            )
    parts.append(
        f'<text x="{left}" y="{height - 3}"><tspan fill="#0a7">● batch 32</tspan> <tspan fill="#b60">● batch 1</tspan> '
        "energy saved (estimated)</text></svg>\n"
    )
    return "".join(parts)


def _case_table(case: str, rows: Sequence[Row]) -> str:
    lines = [
        f"### {case}\n",
        "| method | seeds | accuracy, dense | accuracy, pruned | energy saved, batch 32 | batch 1 | latency | "
        "memory saved | carbon saved | fine-tunings |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method in rounds.METHODS:
        found = _of(rows, case, method)
        if not found:
            continue
        lines.append(
            f"| {TITLES[method]} | {len(found)} | {_mean(found, 'accuracy_dense'):.2%} | "
            f"{_mean(found, 'accuracy'):.2%} | {_saved(found)} | {_saved([row['single'] for row in found])} | "
            f"{_mean(found, 'latency_speedup_ratio'):.2f}x | {_mean(found, 'memory_reduction_ratio'):.1%} | "
            f"{_mean(found, 'carbon_reduction_ratio'):.1%} | {_fine_tunings(found)} |"
        )
    return "\n".join(lines)


def _of(rows: Sequence[Row], case: str, method: str) -> list[Row]:
    return [row for row in rows if row["model"] == case and row["method"] == method]


def _mean(found: Sequence[Row], key: str) -> float:
    return statistics.fmean(row[key] for row in found)


def _fine_tunings(found: Sequence[Row]) -> str:
    return f"{_mean(found, 'fine_tunings'):.1f}" if all("fine_tunings" in row for row in found) else ""


def _saved(found: Sequence[Row]) -> str:
    low = min(row["energy_reduction_interval"][0] for row in found)
    high = max(row["energy_reduction_interval"][1] for row in found)
    return f"{_mean(found, 'energy_reduction_ratio'):.1%} [{low:.1%}, {high:.1%}]"


def _figures(result: dict[str, Any]) -> list[str]:
    prediction, share = result["prediction"], result["loop"]["fine_tune_and_evaluate_share_ratio"]
    large = result["transformer"]
    return [
        f"- Cost model: median error of held-out layers {prediction['layer_median_error_ratio']:.1%}, of whole models "
        f"{prediction['model_error_ratio']:.1%}.",
        f"- Analytic estimator, calibrated on one family and asked about another: median error "
        f"{prediction['analytic_transfer_error_ratio']:.1%}.",
        "- Share of Knapsack's wall time that is fine-tuning and evaluation: "
        + ("no run." if share is None else f"{share:.1%}."),
        f"- A transformer of {large['model']['layers']} layers, {large['model']['hidden_size']} wide, on one core: "
        f"dependency graph, allocation, surgery and its check take {large['seconds']['total']:.1f} s an iteration; "
        f"pruning needs {large['memory_ratio']:.2f} times the memory of training it.",
        f"- Least accuracy that was allowed: {ours.BUDGET_POINTS} points below dense.",
    ]
