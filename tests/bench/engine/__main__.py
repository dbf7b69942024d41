"""`make bench-engine`: every method on every model, then prediction, transformer and loop figures; JSON and documents.

Rounds run in one process a core, each with one thread, and all is kept in build/bench/engine: an interrupted benchmark
goes on where it was. Models are measured when all rounds are done, one at a time. QUICK=1 does one seed with little
effort; SEEDS=0,1 and CASES=vgg-shapes100 choose; DOCUMENT=1 writes docs/benchmarks, where rounds that were not run
keep their rows, each with its commit and its machine; FINISHED=1 runs nothing more and takes what there is.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import metadata
from typing import Any

from tests.bench import prediction, transformer
from tests.bench.engine import cases, document, measured, ours, plateau, rounds
from tests.bench.machine import ROOT, machine

_DIRECTORY = ROOT / "build/bench/engine"
_DOCUMENTS = ROOT / "docs/benchmarks"
_SPENT_ON_PRUNING = ("FineTuning", "Evaluating")


def main() -> None:
    """Run what the environment asks for."""
    quick = os.environ.get("QUICK") == "1"
    seeds = [int(item) for item in os.environ.get("SEEDS", "0" if quick else "0,1,2").split(",")]
    workers = int(os.environ.get("WORKERS", os.cpu_count() or 1))
    begin = time.monotonic()
    chosen = os.environ.get("CASES", ",".join(cases.CASES)).split(",")
    documented, documents = _documented(), os.environ.get("DOCUMENT") == "1"
    rows = _rows(quick, seeds, chosen, workers)
    if documents:
        run = {_round(row) for row in rows}
        rows = [*(row for row in documented.get("rows", []) if _round(row) not in run), *rows]
    result = {
        "about": {
            "command": "make bench-engine" + "".join(
                f" {name}={os.environ[name]}" for name in ("QUICK", "SEEDS", "CASES") if os.environ.get(name)
            ),
            "machine": machine(), "torch": metadata.version("torch"),
            "torch_pruning": metadata.version("torch-pruning"), "quick": quick,
            "effort": vars(ours.QUICK if quick else ours.FULL), "budget_points": ours.BUDGET_POINTS,
        },
        "rows": rows,
        "prediction": _kept("prediction", quick, prediction.bench, documented),
        "transformer": _kept("transformer", quick, transformer.bench, documented),
        "plateau": _kept("plateau", quick, functools.partial(plateau.bench, directory=_DIRECTORY), documented),
        "loop": _loop(rows),
        "seconds": round(time.monotonic() - begin, 1),
    }  # fmt: skip
    path = _DIRECTORY.parent / "engine.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"==> {path}", flush=True)
    print(document.table(rows), flush=True)
    if documents:
        document.write(result, _DOCUMENTS)


def _documented() -> dict[str, Any]:
    """Return what docs/benchmarks holds; the rows of rounds that are not run this time stay there."""
    path = _DOCUMENTS / "engine.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _finished() -> bool:
    return os.environ.get("FINISHED") == "1"


def _round(row: dict[str, Any]) -> tuple[str, int, str]:
    return row["model"], row["seed"], row["method"]


def _rows(quick: bool, seeds: list[int], chosen: list[str], workers: int) -> list[dict[str, Any]]:
    # Methods take turns within a case and seed, so that a machine that is slower for a while is slower for all.
    others = tuple(method for method in rounds.METHODS if method not in (*rounds.COMPARED, rounds.SCRATCH))
    tasks = [
        task
        for methods in (rounds.COMPARED, others, (rounds.SCRATCH,))
        for seed in seeds for case in chosen for method in methods
        if (task := rounds.Round(case, seed, method, quick)).differs
    ]  # fmt: skip
    if _finished():
        tasks = [task for task in tasks if rounds.finished(task, _DIRECTORY)]
    done: dict[rounds.Round, dict[str, Any]] = {}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        dense = [pool.submit(rounds.train, case, seed, quick, _DIRECTORY) for seed in seeds for case in chosen]
        for future in dense:
            future.result()
        futures = {pool.submit(rounds.run, task, _DIRECTORY): task for task in tasks}
        for future in as_completed(futures):
            task = futures[future]
            row = done[task] = future.result()
            print(
                f"    {len(done):>3}/{len(tasks)} {task.case} seed {task.seed} {task.method:16} "
                f"{row['accuracy_dense']:.2%} -> {row['accuracy']:.2%} in {row['seconds']:.0f} s",
                flush=True,
            )  # fmt: skip
    print(f"==> measuring {len(tasks)} models, one after the other: leave the machine alone", flush=True)
    return [{**done[task], **measured.measure(task, _DIRECTORY)} for task in tasks]


def _kept(
    name: str, quick: bool, bench: Callable[[bool], dict[str, Any]], documented: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the figures of another benchmark, measured unless they were before; None if they are to be had nowhere."""
    path = _DIRECTORY / f"{name}{'-quick' if quick else ''}.json"
    if not path.is_file():
        if _finished():
            return documented.get(name)
        rounds.write(path, {**bench(quick), "commit": machine()["commit"]})
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _loop(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return which share of the runs' wall time was fine-tuning and evaluation."""
    # A round that was paused has none.
    phases = [row["phase_seconds"] for row in rows if row["method"] == "knapsack" and "phase_seconds" in row]
    spent = sum(phase.get(name, 0.0) for phase in phases for name in _SPENT_ON_PRUNING)
    whole = sum(sum(phase.values()) for phase in phases)
    return {"fine_tune_and_evaluate_share_ratio": spent / whole if whole else None}


if __name__ == "__main__":
    main()
