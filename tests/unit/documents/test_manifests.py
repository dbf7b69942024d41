"""Manifests that are no file's: README's, and parts of a ModelRollout in pages. The others are applied by tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from coppice_api import crd
from coppice_api.modelrollout import ModelRollout
from coppice_api.prunejob import PruneJob
from tests.builders import model_rollout

WHOLE = model_rollout(
    analysis__prometheus__address="http://prometheus:9090",
    analysis__checks=[{"name": "errors", "preset": "errorRate", "thresholdRange": {"max": "0.01"}}],
)
KINDS = {"PruneJob": PruneJob, "ModelRollout": ModelRollout}


def shown(document: Path) -> list[dict[str, Any]]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [yaml.safe_load(block) for block in blocks]


def merged(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return the one with the other's fields in it."""
    return whole | {
        name: merged(whole.get(name, {}), value) if isinstance(value, dict) else value for name, value in part.items()
    }


def test_what_pages_show_of_a_manifest_is_valid(repository: Path) -> None:
    found = 0
    for document in [repository / "README.md", *(repository / "docs").rglob("*.md")]:
        for block in shown(document):
            found += 1
            if "kind" not in block:
                block = merged(WHOLE, {"spec": block})
            assert crd.validate(KINDS[block["kind"]], block) == [], document
    assert found >= 5
