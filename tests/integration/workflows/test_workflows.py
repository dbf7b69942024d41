"""GitHub's workflows, read by actionlint: expressions, contexts, inputs of actions, events, runners."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import programs


@pytest.mark.timeout(programs.MANY_SECONDS)
def test_actionlint_has_nothing_to_say(repository: Path) -> None:
    assert programs.actionlint(*(repository / ".github" / "workflows").glob("*.yml")) == ""


@pytest.mark.timeout(programs.MANY_SECONDS)
def test_a_context_that_is_not_there_is_found(repository: Path, tmp_path: Path) -> None:
    text = (repository / ".github" / "workflows" / "release.yml").read_text()
    spoilt = tmp_path / "release.yml"
    spoilt.write_text(text.replace("steps.build.outputs.digest", "steps.built.outputs.digest"))
    assert 'property "built" is not defined' in programs.actionlint(spoilt)
