"""The site of docs/ builds strictly and asks nothing of another host; documents outside it link to what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify

from observability.panels import DOCUMENTS

OUTSIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "charts/coppice/README.md",
           "examples/01-minimal/README.md", "examples/digits/README.md", "tools/devcluster/README.md"]  # fmt: skip


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    place = tmp_path_factory.mktemp("site")
    # The interpreter's own warnings are not the site's: -W would make errors of them.
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)], cwd=repository,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    return place


def test_links_and_anchors_lead_somewhere(site: Path) -> None:
    assert (site / "index.html").is_file()


def test_nothing_is_fetched_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r"<(?:script|img|link|iframe)[^>]+(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)", page.read_text()
        )
        assert fetched == [], page


def test_alerts_and_dashboards_link_to_pages_of_the_site(site: Path, repository: Path) -> None:
    files = [repository / "alerts" / "coppice.yaml", *(repository / "dashboards").glob("*.json")]
    links = {link for file in files for link in re.findall(rf"{DOCUMENTS}/([\w./#-]+)", file.read_text())}
    assert len(links) > 5
    for link in links:
        page, _, anchor = link.partition("#")
        assert (site / page).is_file(), link
        assert not anchor or f'id="{anchor}"' in (site / page).read_text(), link


def test_every_test_and_source_that_a_page_names_is_there(repository: Path) -> None:
    for page in (repository / "docs").rglob("*.md"):
        # Decisions speak of what was.
        if page.parent.name == "decisions":
            continue
        for name in re.findall(
            r"`((?:api|operator|pruner|cli|tests|tools|charts|examples|alerts)/[\w./-]+)", page.read_text()
        ):
            assert (repository / name).exists(), f"{page.name} names {name}"


@pytest.mark.parametrize("name", OUTSIDE)
def test_documents_outside_the_site_link_to_what_exists(repository: Path, name: str) -> None:
    document = repository / name
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in [slugify(heading, "-") for heading in headings], link
