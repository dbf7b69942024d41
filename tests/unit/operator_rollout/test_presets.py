"""Presets: their metrics are those that the projects publish, and the page about them says what the code does."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from inference_server.metrics import Metrics
from prometheus_client.parser import text_string_to_metric_families

from coppice_api.modelrollout import Check, CheckPreset, TargetKey
from coppice_operator.rollout.presets import PRESETS, promql
from tests.prometheus import recorded

BEGIN, END = "<!-- presets: begin -->\n", "<!-- presets: end -->\n"
# What a service discovery attaches to every series of a pod that is scraped.
ATTACHED = {"namespace", "pod"}


def published() -> dict[str, set[str]]:
    """Return the names of all labels by metric: of the recorded pages, and of the example server itself."""
    metrics = Metrics(digest="d", uri="u")
    metrics.model_loaded(memory_bytes=1, provenance="Measured")
    metrics.inferred(samples=1, energy_joules=1, provenance="Measured")
    metrics.answered(code=200, duration_seconds=0.1)
    metrics.probed(1)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    for name in recorded.NAMES:
        for labels in recorded.series(name).values():
            found.setdefault(labels["__name__"], set()).update(labels.keys() - {"__name__"})
    return found


def query(preset: CheckPreset) -> str:
    check = Check.model_validate({"name": "check", "preset": preset, "thresholdRange": {"max": "1"}})
    return promql(check, namespace="fleet", targets=[TargetKey("web")], available=2, digest="d", window_seconds=30)


def test_every_preset_has_a_row() -> None:
    assert set(PRESETS) == set(CheckPreset)


@pytest.mark.parametrize("preset", CheckPreset)
def test_a_preset_asks_for_metrics_and_labels_that_are_published(preset: CheckPreset) -> None:
    known = published()
    selectors = re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", query(preset))
    assert selectors
    for metric, matchers in selectors:
        assert metric in known
        labels = set(re.findall(r'(\w+)=~?"', matchers))
        exported = {label for label in labels if label.startswith("exported_")}
        # A label of the exporter's own that the scrape attaches too is renamed.
        assert {label.removeprefix("exported_") for label in exported} <= known[metric]
        assert labels - exported - ATTACHED <= known[metric]


@pytest.mark.parametrize("preset", CheckPreset)
def test_every_available_pod_has_to_report_each_metric(preset: CheckPreset) -> None:
    text = query(preset)
    for metric in PRESETS[preset].metrics:
        assert re.search(
            rf"and on\(\) \(count\(count by \([\w, ]+\) \({re.escape(metric.name)}\{{[^>]*\)\) >= 2\)", text
        )


def table() -> str:
    """Return the table of docs/analysis.md."""
    rows = ["| preset | measured by | what | unit | told from the old model by |", "| --- | --- | --- | --- | --- |"]
    for name, preset in PRESETS.items():
        told = "`digest`" if preset.names_digest else "time"
        rows.append(f"| `{name}` | {preset.source} | {preset.meaning} | {preset.unit} | {told} |")
    return "\n".join(rows) + "\n"


def test_the_page_has_the_table_of_the_code(repository: Path) -> None:
    page = repository / "docs" / "analysis.md"
    before, rest = page.read_text().split(BEGIN)
    shown, after = rest.split(END)
    if os.environ.get("WRITE_TABLE") == "1":
        page.write_text(before + BEGIN + table() + END + after)
        shown = table()
    assert shown == table(), "run WRITE_TABLE=1 pytest tests/unit/operator_rollout/test_presets.py"
