"""Pages that are followed on one machine, as written, in an empty directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pages

OWN = ("/tmp/coppice/own", "/tmp/coppice/own-model")  # what the pages name
MANY_SECONDS = 1500.0


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """`python` and `coppice` are those of the virtual environment, as after `source .venv/bin/activate`."""
    with pages.places(*OWN):
        yield {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.timeout(MANY_SECONDS)
@pytest.mark.parametrize("name", ["own-model", "own-data"])
def test_a_model_and_data_of_ones_own_are_pruned_by_the_page_alone(
    name: str, environment: dict[str, str], repository: Path, tmp_path: Path
) -> None:
    said = pages.follow(
        repository / "docs" / "how-to" / f"{name}.md", tmp_path, environment, timeout_seconds=MANY_SECONDS
    )
    assert "TargetMet: " in said
    assert "(estimated" in said
