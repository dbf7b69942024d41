"""What the planners are made of reads no clock, no chance and no environment: time and all else come as arguments."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import coppice_operator.prunejob.plan
import coppice_operator.rollout.plan

PLANNERS = (coppice_operator.prunejob.plan, coppice_operator.rollout.plan)
IMPURE = {"time", "os", "random", "secrets", "socket", "asyncio", "threading", "subprocess", "kopf", "aiohttp"}
CLOCKS = {"datetime.now", "datetime.utcnow", "date.today"}


def imported(tree: ast.Module) -> set[str]:
    """Return the names of modules that a module imports, those of names in them included."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def modules() -> dict[str, ast.Module]:
    """Return the planners and every module of ours that they import, however far away."""
    found: dict[str, ast.Module] = {}
    waiting = [planner.__name__ for planner in PLANNERS]
    while waiting:
        name = waiting.pop()
        if name in found or not name.startswith("coppice_"):
            continue
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            # A name in a module rather than a module.
            continue
        if spec is None or spec.origin is None:
            continue
        found[name] = ast.parse(Path(spec.origin).read_text())
        waiting += imported(found[name])
    return found


def test_nothing_that_a_planner_is_made_of_reads_a_clock_or_anything_else_that_was_not_given_to_it() -> None:
    seen = modules()
    assert {"coppice_operator.prunejob.variant", "coppice_operator.rollout.draft", "coppice_api.base"} <= set(seen)
    impure = {name: found for name, tree in seen.items() if (found := imported(tree) & IMPURE)}
    assert impure == {}
    asked = [
        f"{name}:{node.lineno}"
        for name, tree in seen.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CLOCKS
    ]
    assert asked == []
