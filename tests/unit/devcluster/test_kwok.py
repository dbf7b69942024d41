"""KWOK's own stages, with the end of a run that the operator can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import binaries, kwok

_STAGE = """\
metadata: {name: NAME}
spec:
  selector:
    matchExpressions: [{key: .status.phase, operator: In, values: [Pending]}]
  next:
    statusTemplate: |
      containerStatuses:
      - state:
          terminated:
            exitCode: 0
            reason: Completed
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KWOK's module with the least that its stages are."""
    for name in kwok.STAGES:
        path = tmp_path / "kustomize" / "stage" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_STAGE.replace("NAME", path.stem))
    monkeypatch.setattr(binaries, "module_files", lambda *_: tmp_path)


def stages(message: str = "", run_seconds: float = 1.0, ill: str = "") -> dict[str, Any]:
    documents = yaml.safe_load_all(kwok.stages(message, run_seconds, ill))
    return {item["metadata"]["name"]: item["spec"] for item in documents}


def test_a_run_ends_with_the_message_that_was_asked_for() -> None:
    message = '{"message": "it\'s done"}'
    found = stages(message, 1.5)
    assert len(found) == len(kwok.STAGES)
    assert "delay" not in found["pod-ready"]
    assert len(found["pod-ready"]["selector"]["matchExpressions"]) == 1
    ending = found["pod-complete"]
    assert ending["delay"] == {"durationMilliseconds": 1500}
    (container,) = yaml.safe_load(ending["next"]["statusTemplate"])["containerStatuses"]
    assert container["state"]["terminated"] == {"exitCode": 0, "reason": "Completed", "message": message}


def test_a_pod_that_is_ill_is_never_said_to_be_ready() -> None:
    rules = stages(ill=".metadata.labels.ill")["pod-ready"]["selector"]["matchExpressions"]
    assert rules[1:] == [{"key": ".metadata.labels.ill", "operator": "DoesNotExist"}]
