"""Dashboards and rules: up to date, and made of metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability import answers
from observability.__main__ import BOARDS, generated
from observability.metrics import exposed
from observability.panels import DOCUMENTS

_METRIC = re.compile(r"\b(coppice_[a-z0-9_]+|process_[a-z_]+)\b")
_SUFFIX = re.compile(r"_(bucket|count|sum)$")


@pytest.fixture(scope="module")
def known() -> set[str]:
    return {item.name for item in exposed()} | {"process_resident_memory_bytes"}


def asked_for(query: str, known: set[str]) -> set[str]:
    """Return the metrics a query names; a histogram by its own name, whichever of its series are asked for."""
    found = set()
    for name in _METRIC.findall(query):
        whole = _SUFFIX.sub("", name)
        found.add(whole if whole in known else name)
    return found


def rules(repository: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load((repository / "alerts" / "coppice.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_generated_files_are_what_the_code_says() -> None:
    for path, text in generated().items():
        assert path.read_text() == text, f"{path.name}: run `make observability`"


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_asks_for_metrics_that_exist(repository: Path, known: set[str], name: str) -> None:
    board = json.loads((repository / "dashboards" / f"{name}.json").read_text())
    for title, query in answers.queries(board):
        asked = asked_for(query, known)
        assert asked, title
        assert asked <= known


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_says_what_it_shows_and_in_what_unit(repository: Path, name: str) -> None:
    board = json.loads((repository / "dashboards" / f"{name}.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["title"] for panel in panels}) == len(panels) >= 12
    for panel in panels:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
    assert [link["title"] for link in board["links"]] == ["Coppice", "What the metrics mean"]


def test_rules_ask_for_metrics_that_exist(repository: Path, known: set[str]) -> None:
    recorded = {rule["record"] for rule in rules(repository) if "record" in rule}
    for rule in rules(repository):
        query = rule["expr"]
        for name in recorded:
            query = query.replace(name, "")
        assert asked_for(query, known) <= known


def test_documents_name_metrics_that_exist(repository: Path, known: set[str]) -> None:
    packages = {"coppice_api", "coppice_cli", "coppice_operator", "coppice_pruner"}
    for page in (repository / "docs").rglob("*.md"):
        if page.parent.name != "decisions":  # they speak of what was
            named = set(re.findall(r"\bcoppice_[a-z0-9_]+\b", page.read_text()))
            assert named - packages <= known, page.name


def test_every_alert_has_a_page_in_the_runbook(repository: Path) -> None:
    pages = re.findall(r"^## (\w+)$", (repository / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    alerts = {rule["alert"]: rule for rule in rules(repository) if "alert" in rule}
    assert sorted(pages) == sorted(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"{DOCUMENTS}/runbooks.html#{name.lower()}"


def test_every_alert_is_tested_both_ways_or_at_least_fires(repository: Path) -> None:
    tests = yaml.safe_load((repository / "alerts" / "tests.yaml").read_text())["tests"]
    fired = {
        case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]
    }  # fmt: skip
    assert fired == {rule["alert"] for rule in rules(repository) if "alert" in rule}


def test_variables_are_put_into_a_query_as_grafana_does() -> None:
    found = answers.substitute('a{n=~"$namespace"}[${__range}] * $price', {"namespace": "x", "__range": "60s"})
    assert found == 'a{n=~"x"}[60s] * $price'


@pytest.mark.parametrize("name", BOARDS)
def test_the_picture_of_a_dashboard_shows_every_panel_with_data(repository: Path, name: str) -> None:
    board = json.loads((repository / "dashboards" / f"{name}.json").read_text())
    # matplotlib draws letters as paths and writes beside them, as comments, what they say.
    said = re.findall(r"<!-- (.*?) -->", (repository / "docs" / "pictures" / f"{name}.svg").read_text())
    assert {title for title, _ in answers.queries(board)} <= set(said)
    assert "no data" not in said
