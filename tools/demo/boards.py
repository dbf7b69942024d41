"""The dashboards over the time of the demo: every panel asked, and drawn."""

from __future__ import annotations

import json
from pathlib import Path

from demo.place import ROOT
from demo.shell import DemoError
from observability.answers import UnansweredError, ask
from observability.pictures import draw

VARIABLES = {"prunejob": "digits", "job": ".*", "price": "0.25", "intensity": "350"}


def draw_boards(address: str, namespace: str, begin: float, end: float, directory: Path) -> dict[str, list[str]]:
    """Draw every dashboard from what Prometheus holds, and return the panels of each that got no data.

    Args:
        address: Of Prometheus.
        namespace: Of the fleet.
        begin: Unix seconds.
        end: Unix seconds.
        directory: Where the pictures go.

    Raises:
        DemoError: If a query is refused.
    """
    empty = {}
    for path in sorted((ROOT / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        try:
            answers = ask(board, address, {**VARIABLES, "namespace": namespace}, begin, end)
        except UnansweredError as error:
            raise DemoError(f"dashboards/{path.name}: {error}") from error
        draw(board["title"], answers, directory / f"{path.stem}.svg")
        empty[path.stem] = [answer.title for answer in answers if not answer.series]
    return empty
