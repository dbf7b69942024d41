"""KWOK's own stages, with the end of a run that the operator can read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from devcluster import binaries, kwok

_STAGE = """\
metadata: {name: NAME}
spec:
  next:
    statusTemplate: |
      containerStatuses:
      - state:
          terminated:
            exitCode: 0
            reason: Completed
"""


def test_a_run_ends_with_the_message_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in kwok.STAGES:
        path = tmp_path / "kustomize" / "stage" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_STAGE.replace("NAME", path.stem))
    monkeypatch.setattr(binaries, "module_files", lambda *_: tmp_path)
    message = '{"message": "it\'s done"}'
    stages = {item["metadata"]["name"]: item["spec"] for item in yaml.safe_load_all(kwok.stages(message, 1.5))}
    assert len(stages) == len(kwok.STAGES)
    assert "delay" not in stages["pod-ready"]
    ending = stages["pod-complete"]
    assert ending["delay"] == {"durationMilliseconds": 1500}
    (container,) = yaml.safe_load(ending["next"]["statusTemplate"])["containerStatuses"]
    assert container["state"]["terminated"] == {"exitCode": 0, "reason": "Completed", "message": message}
