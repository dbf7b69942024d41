"""Every command a README shows is run. The fleet's are run where there is a fleet, and `make demo` by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pages
from tests.pages import commands

ELSEWHERE = {
    "make demo": "tests/e2e/first_light/test_demo.py",
    "kubectl": "tests/e2e/first_light/test_killed_operator.py",
    "sed": "tests/e2e/first_light/test_killed_operator.py",
    "python -m devcluster": "tests/integration/devcluster/test_cluster.py",
    "with Cluster": "tests/integration/devcluster/test_cluster.py",
}


@pytest.fixture
def clean() -> Iterator[None]:
    """Where the documents put things, empty before and gone after."""
    with pages.places("/tmp/coppice/digits", "/tmp/coppice/runs"):
        yield


def run_here(document: Path) -> list[str]:
    return [line for line in commands(document) if not line.startswith(tuple(ELSEWHERE))]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", pages.FROM_A_CHECKOUT)
@pytest.mark.usefixtures("clean")
def test_the_commands_of_a_document_work(name: str, repository: Path, tmp_path: Path) -> None:
    script = "\n".join(["set -euo pipefail", *run_here(repository / name)])
    result = subprocess.run(
        ["bash", "-c", script], cwd=repository, env={**os.environ, "TERM": "dumb"},
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{script}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    assert "TargetMet: " in result.stdout
    assert "(estimated" in result.stdout
    if name == "docs/start.md":
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        assert "paid back after" in pages.follow(repository / "docs" / "how-to" / "cost.md", tmp_path, environment)


def test_the_smallest_example_shows_commands_of_the_readme(repository: Path) -> None:
    assert set(commands(repository / "examples/01-minimal/README.md")) < set(commands(repository / "README.md"))


def test_every_other_document_with_commands_is_known(repository: Path) -> None:
    documents = [
        path for folder in ("examples", "tools", "docs", "charts") for path in (repository / folder).rglob("*.md")
    ]
    followed = {repository / name for kind in (pages.FROM_A_CHECKOUT, pages.ON_A_LAPTOP, pages.IN_A_CLUSTER,
                                                pages.WITH_HELM, pages.BY_THEMSELVES) for name in kind}  # fmt: skip
    for document in [*documents, repository / "CONTRIBUTING.md"]:
        if document in followed or document.parent.name == "inference-server":
            continue
        assert run_here(document) == [], f"{document} shows commands that no test runs"


def test_what_is_run_elsewhere_is_run_there(repository: Path) -> None:
    for path in ELSEWHERE.values():
        assert (repository / path).is_file()
