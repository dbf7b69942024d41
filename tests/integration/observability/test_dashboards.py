"""Dashboards against Grafana's published schema: the types that Grafana Labs generates from it, read strictly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import programs

Json = dict[str, Any]


def graph(board: Json) -> Json:
    return next(panel for panel in board["panels"] if panel["type"] == "timeseries")


FAULTS: dict[str, tuple[Callable[[Json], None], str]] = {
    "an unknown field": (lambda board: board.update(bogus=1), "unexpected field 'bogus'"),
    "an option of no panel": (lambda board: graph(board)["options"].update(bogus=1), "Options: unexpected field"),
    "a field of no query": (lambda board: graph(board)["targets"][0].update(bogus=1), "Dataquery: unexpected field"),
    "a panel of no kind": (lambda board: graph(board).update(type="graf"), 'no panel is of type "graf"'),
    "a panel wider than the grid": (lambda board: graph(board)["gridPos"].update(w=25), "must be <= 24"),
    "text for a number": (lambda board: graph(board)["gridPos"].update(h="8"), "cannot unmarshal string"),
}


@pytest.mark.timeout(programs.MANY_SECONDS)
def test_dashboards_have_nothing_that_is_not_in_grafanas_schema(repository: Path) -> None:
    files = sorted((repository / "dashboards").glob("*.json"))
    assert len(files) == 3
    assert programs.boards(*files) == ""


@pytest.mark.timeout(programs.MANY_SECONDS)
@pytest.mark.parametrize(("spoil", "want"), FAULTS.values(), ids=FAULTS)
def test_what_is_not_in_the_schema_is_found(
    spoil: Callable[[Json], None], want: str, repository: Path, tmp_path: Path
) -> None:
    board = json.loads((repository / "dashboards" / "fleet.json").read_text())
    spoil(board)
    spoilt = tmp_path / "spoilt.json"
    spoilt.write_text(json.dumps(board))
    assert want in programs.boards(spoilt)
