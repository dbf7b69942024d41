"""The parts of a pod's volumes that need no cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from devcluster.node.claims import volume_for
from devcluster.node.container import restarts
from devcluster.node.volumes import mounts, quantity


@pytest.mark.parametrize(
    ("text", "want"), [("2", 2.0), ("500m", 0.5), ("1Ki", 1024.0), ("1.5Gi", 1.5 * 1024**3), ("3M", 3e6)]
)
def test_quantities_are_read(text: str, want: float) -> None:
    assert quantity(text) == want


def test_sub_paths_are_made(tmp_path: Path) -> None:
    container = {
        "volumeMounts": [
            {"name": "v", "mountPath": "/a", "subPath": "x/y"},
            {"name": "v", "mountPath": "/b", "subPathExpr": "$(NAME)"},
            {"name": "v", "mountPath": "/c"},
        ]
    }
    found = mounts(container, {"v": tmp_path}, {"NAME": "z"})
    assert found == {"/a": str(tmp_path / "x/y"), "/b": str(tmp_path / "z"), "/c": str(tmp_path)}
    assert all(Path(item).is_dir() for item in found.values())


@pytest.mark.parametrize(
    ("policy", "exit_code", "want"),
    [("Always", 0, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_the_restart_policy_decides(policy: str, exit_code: int, want: bool) -> None:
    assert restarts(policy, exit_code) is want


def test_a_volume_names_its_claim() -> None:
    claim = {
        "metadata": {"name": "models", "namespace": "team", "uid": "u-1"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    volume = volume_for(claim, Path("/volumes/x"))
    assert volume["spec"]["claimRef"]["uid"] == "u-1"
    assert volume["spec"]["capacity"] == {"storage": "1Gi"}
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
