"""The dashboards over the time of the demo: every panel asked, and drawn."""

from __future__ import annotations

import json
import time
from pathlib import Path

from demo.place import ROOT
from demo.shell import DemoError
from observability.answers import UnansweredError, ask
from observability.pictures import draw

VARIABLES = {"prunejob": "digits", "job": ".*", "price": "0.25", "intensity": "350"}
_PATIENCE_SECONDS = 30.0


def draw_boards(address: str, namespace: str, begin: float, end: float, directory: Path) -> dict[str, list[str]]:
    """Draw every dashboard from what Prometheus holds, and return the panels of each that got no data.

    What has just happened shows from the next scrape on, so an empty panel is asked again for a while.

    Args:
        address: Of Prometheus.
        namespace: Of the fleet.
        begin: Unix seconds.
        end: Unix seconds.
        directory: Where the pictures go.

    Raises:
        DemoError: If a query is refused.
    """
    empty, variables = {}, {**VARIABLES, "namespace": namespace}
    for path in sorted((ROOT / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        try:
            answers = ask(board, address, variables, begin, end)
            while not all(answer.series for answer in answers) and time.time() < end + _PATIENCE_SECONDS:
                time.sleep(1)
                answers = ask(board, address, variables, begin, time.time())
        except UnansweredError as error:
            raise DemoError(f"dashboards/{path.name}: {error}") from error
        draw(board["title"], answers, directory / f"{path.stem}.svg")
        empty[path.stem] = [answer.title for answer in answers if not answer.series]
    return empty
