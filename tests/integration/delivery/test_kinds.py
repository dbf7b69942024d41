"""What is written for each kind of target, built by the real kustomize beside manifests of a fleet."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from coppice_api.modelrollout import TargetKind
from coppice_operator.delivery.change import Edit
from coppice_operator.delivery.component import Component
from devcluster import binaries
from tests.unit.operator_rollout.controllers import MAKERS, PARTS, env_value

NEW = "s3://models/5f70bf18"


def test_targets_of_one_name_each_get_their_own_patch_and_keep_the_rest(tmp_path: Path) -> None:
    fleet: list[dict[str, Any]] = []
    component = Component(None)
    for make in MAKERS:
        body = {key: value for key, value in make("web").items() if key not in ("status", PARTS)}
        fleet.append(body)
        service = body["kind"] == TargetKind.INFERENCE_SERVICE
        component.give(Edit(body["kind"], "web", "" if service else "server", None if service else "MODEL_URI", NEW))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "kustomization.yaml").write_text(component.text())
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump_all(fleet))
    top = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["fleet.yaml"],
        "components": ["models"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(top))
    built = subprocess.run(
        [str(binaries.kubectl()), "kustomize", str(tmp_path)], capture_output=True, text=True, check=True
    )
    documents = {document["kind"]: document for document in yaml.safe_load_all(built.stdout)}
    assert {kind: env_value(document) for kind, document in documents.items()} == dict.fromkeys(documents, NEW)
    assert len(documents) == len(MAKERS)
    assert documents["InferenceService"]["spec"]["predictor"]["model"]["modelFormat"] == {"name": "sklearn"}
    (container,) = documents["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "PORT", "value": "8080"} in container["env"]
