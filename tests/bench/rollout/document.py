"""docs/benchmarks/rollout.md, from the figures of a run; nothing in it is typed in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(result: dict[str, Any], directory: Path) -> None:
    """Write the document and its data."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "rollout.json").write_text(json.dumps(result, indent=1) + "\n")
    (directory / "rollout.md").write_text(page(result))


def page(result: dict[str, Any]) -> str:
    """Return the document."""
    machine, back = result["machine"], result["back"]
    quick = "QUICK=1 " if result["quick"] else ""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(result["writes"].items()))
    identical = "byte for byte what it was" if result["rolled_back_identical"] else "NOT what it was"
    rows = {
        "Deployments, waves": f"{result['targets']}, {result['waves']}",
        "times the operator was killed (SIGKILL)": f"{result['kills']} forward, {back['kills']} on the way back",
        "changes of a pod template, each Deployment": f"{result['template_changes_per_target']:g}",
        "API writes of the operator, each Deployment": f"{result['writes_per_target']:g} ({kinds})",
        "Deployments between two models at once, at most": (
            f"{result['max_in_transition']} forward, {back['max_in_transition']} with the bad model; "
            f"the limit was {result['limit_in_transition']}"
        ),
        "seconds, good model": f"{result['forward_seconds']:g}",
        "seconds, bad model there and back": f"{back['seconds']:g} ({back['touched']} Deployments touched)",
        "every pod template after the way back": identical,
    }
    return "\n".join(
        [
            "# A model to a fleet, and a bad one back\n",
            f"Written by `{quick}DOCUMENT=1 make bench-rollout` at {machine['time']}, commit {machine['commit']}: "
            f"{machine['cores']} cores of {machine['cpu']} for everything, API server, etcd and the benchmark "
            f"included, Python {machine['python']}, load before {machine['load_before']:.1f}. Nodes are played by "
            "KWOK; API server, etcd, scheduler and controllers are real.\n",
            "Order, limits and number of changes are read from a watch of the Deployments, not from the rollout's "
            "status. The bad model leaves one Deployment of a middle wave without a ready pod, so it is taken back.\n",
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in rows.items()),
            "",
        ]
    )
