"""docs/failure-modes.md and the fault tests say the same: no row without a test, no test without a row."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROWS = 40
HERE = "tests/integration/operator/faults"
_NOT_FAULTS = {"test_table.py", "test_writes.py"}


def named(document: Path) -> list[str]:
    """Return the node ids in the last column of the table, whole."""
    rows = [line.split("|")[-2] for line in document.read_text().splitlines() if line.startswith("| ")]
    found = [name for row in rows for name in re.findall(r"`([^`]+::[^`]+)`", row)]
    return [name if name.startswith("tests/") else f"{HERE}/{name}" for name in found]


def collected(repository: Path, *paths: str) -> set[str]:
    """Return the node ids pytest finds, and each without its parameters."""
    output = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *paths],
        cwd=repository, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    nodes = {line for line in output.splitlines() if "::" in line}
    return nodes | {node.partition("[")[0] for node in nodes}


def test_every_row_names_tests_that_exist_and_every_fault_test_has_a_row(repository: Path) -> None:
    document = repository / "docs" / "failure-modes.md"
    wanted = named(document)
    files = sorted({name.partition("::")[0] for name in wanted} | {HERE})
    found = collected(repository, *files)
    assert [name for name in wanted if name not in found] == []
    told = {name.partition("[")[0] for name in wanted}
    faults = {
        node for node in found
        if node.startswith(HERE) and "[" not in node and Path(node.partition("::")[0]).name not in _NOT_FAULTS
    }  # fmt: skip
    assert sorted(faults - told) == []


def test_the_table_has_a_row_for_each_fault_and_place(repository: Path) -> None:
    rows = [line for line in (repository / "docs" / "failure-modes.md").read_text().splitlines() if "::" in line]
    assert len(rows) >= ROWS
    # Fault and place name a row: no two rows are the same.
    assert len({tuple(row.split("|")[1:3]) for row in rows}) == len(rows)
    assert all(len(row.split("|")) == 7 and all(cell.strip() for cell in row.split("|")[1:-1]) for row in rows)
