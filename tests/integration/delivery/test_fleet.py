"""A rollout through Git on a real API server: a stand-in for Flux carries the commits to the Deployments."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import Cluster
from tests.builders import DIGEST, model_rollout
from tests.git_servers.https import git_https
from tests.git_servers.repository import COMPONENT, FleetRepository
from tests.integration.conftest import Kubectl
from tests.integration.delivery.gitops import ToolStandIn, prometheus_stand_in
from tests.integration.operator.support import Space, operated
from tests.waiting import wait_for

USER, TOKEN = "robot", "canary-token-4711"
NAMES = ("digits-a", "digits-b", "digits-c")
DENSE = "pvc://fleet-models/digits/dense"
PRUNED = f"pvc://fleet-models/runs/pruned#sha256={DIGEST}"
CLAIM = {
    "provenance": "Measured",
    "energyReductionPercent": "65.00",
    "energyReductionLowPercent": "63.00",
    "energyReductionHighPercent": "67.00",
    "accuracyPercent": "99.44",
}
WAVES = [{"targets": 1}, {"targets": "100%"}]


def deployment(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"kustomize.toolkit.fluxcd.io/name": "fleet"}},
        "spec": {
            # Without pods it is available at once.
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [{"name": "server", "image": "i", "env": [{"name": "MODEL_URI", "value": DENSE}]}]
                },
            },
        },
    }


FILES = {
    "apps/kustomization.yaml": yaml.safe_dump(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["fleet.yaml"],
            "components": ["../models"],
        }
    ),
    "apps/fleet.yaml": yaml.safe_dump_all(map(deployment, NAMES)),
    "models/kustomization.yaml": COMPONENT,
}


@dataclass
class Scene:
    """A namespace with an operator, a repository and a tool that applies it."""

    space: Space
    repository: FleetRepository
    tool: ToolStandIn
    log: Path
    url: str

    def models(self) -> dict[str, str]:
        found = {}
        for item in self.space.items("deployments"):
            (container,) = item["spec"]["template"]["spec"]["containers"]
            found[item["metadata"]["name"]] = next(
                (entry["value"] for entry in container["env"] if entry["name"] == "MODEL_URI"), ""
            )
        return found

    def start(self, git: dict[str, Any] | None = None, strategy: dict[str, Any] | None = None, **spec: Any) -> None:
        delivery = {
            "repository": self.url,
            "path": "models/kustomization.yaml",
            "credentialsSecretName": "fleet-git",
            **(git or {}),
        }
        document = model_rollout(
            models=[{"name": "default", "uri": "pvc://fleet-models/runs/pruned", "sha256": DIGEST, "claim": CLAIM}],
            targets=[{"selector": {"matchLabels": {"kustomize.toolkit.fluxcd.io/name": "fleet"}}}],
            strategy={"waves": WAVES, "delivery": "Git", "git": delivery, **(strategy or {})},
            **spec,
        )
        self.space.must("apply", "-f", "-", stdin=document)

    def rollout(self) -> dict[str, Any]:
        return dict(json.loads(self.space.must("get", "modelrollout", "digits", "-o", "json")))

    def state(self) -> str:
        return str(self.rollout().get("status", {}).get("state", ""))

    def ends(self, state: str) -> None:
        try:
            wait_for(lambda: self.state() == state, state)
        except AssertionError as error:
            raise AssertionError(f"{self.rollout().get('status')}\n{self.log.read_text()[-3000:]}") from error


@pytest.fixture
def scene(cluster: Cluster, kubectl: Kubectl, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    name = "g-" + request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    repository = FleetRepository(tmp_path / "fleet.git", FILES)
    with (
        git_https(tmp_path, USER, TOKEN) as (address, certificate),
        operated(cluster, kubectl, name, tmp_path / "operator.log") as space,
    ):
        tool = ToolStandIn(repository, kubectl, name, tmp_path / "tool")
        tool.sync()
        assert tool.failed == []
        data = {"username": USER, "password": TOKEN, "ca.crt": certificate}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "fleet-git", "annotations": {"coppice.dev/git-host": "127.0.0.1"}},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }
        space.must("create", "-f", "-", stdin=secret)
        wait_for(lambda: len(space.items("deployments")) == len(NAMES), "the fleet")
        with tool.running():
            yield Scene(space, repository, tool, tmp_path / "operator.log", f"{address}/fleet.git")
        assert tool.failed == [], "kustomize must be able to build every commit"


def assert_no_credential(scene: Scene) -> None:
    shown = [
        scene.log.read_text(),
        scene.space.must("get", "modelrollouts,events", "-o", "yaml"),
        scene.space.operator.get("/metrics"),
        *scene.repository.messages(),
    ]
    for text in shown:
        assert TOKEN not in text
        assert base64.b64encode(f"{USER}:{TOKEN}".encode()).decode() not in text


def test_a_good_model_goes_through_wave_by_wave_with_a_killed_operator_and_a_moving_branch(scene: Scene) -> None:
    scene.start(strategy={"approval": "Manual", "approvedWave": 1})
    wait_for(lambda: scene.state() == "WaitingForApproval", "the end of wave 1")
    assert scene.models() == {"digits-a": PRUNED, "digits-b": DENSE, "digits-c": DENSE}
    scene.repository.commit("Somebody else's", {"README.md": "hello\n"})
    scene.space.must(
        "patch", "modelrollout", "digits", "--type=merge", "-p", '{"spec": {"strategy": {"approvedWave": 2}}}'
    )
    wait_for(lambda: len(scene.repository.messages()) == 4, "the commit of wave 2")
    scene.space.operator.restart()
    scene.ends("RolledOut")
    assert set(scene.models().values()) == {PRUNED}
    assert [text.splitlines()[0] for text in scene.repository.messages()] == [
        f"Roll {scene.space.name}/digits out: wave 2 of 2",
        "Somebody else's",
        f"Roll {scene.space.name}/digits out: wave 1 of 2",
        "First",
    ]
    uid = scene.rollout()["metadata"]["uid"]
    first = scene.repository.messages()[2]
    assert first.splitlines()[-1] == f"Coppice-Rollout: {uid}/1"
    assert "Energy per inference: 65.00 % less (95 % interval 63.00 to 67.00), measured" in first
    assert "Accuracy: 99.44 %" in first
    shown = json.loads(scene.space.must("get", "deployments", "-o", "json", "--show-managed-fields"))["items"]
    managers = {entry["manager"] for item in shown for entry in item["metadata"]["managedFields"]}
    assert "kustomize-controller" in managers
    assert "coppice" not in managers, "the operator wrote a target itself"
    assert_no_credential(scene)


def test_a_bad_model_is_taken_back_by_a_revert_commit(scene: Scene) -> None:
    specs = {item["metadata"]["name"]: item["spec"]["template"] for item in scene.space.items("deployments")}
    with prometheus_stand_in(lambda _: 0.5) as address:
        check = {"name": "accuracy", "query": 'accuracy{target="$target"}', "thresholdRange": {"min": "0.9"}}
        scene.start(analysis={"prometheus": {"address": address}, "intervalSeconds": 1, "checks": [check]})
        scene.ends("RolledBack")
    assert scene.rollout()["status"]["failureReason"] == "AnalysisFailed"
    assert {item["metadata"]["name"]: item["spec"]["template"] for item in scene.space.items("deployments")} == specs
    assert scene.repository.read("models/kustomization.yaml") == COMPONENT
    back, forward, _ = scene.repository.messages()
    assert back.splitlines()[0] == f"Take {scene.space.name}/digits back"
    assert "AnalysisFailed: check accuracy failed on digits-a" in back
    assert "wave 1 of 2" in forward
    assert_no_credential(scene)


def test_a_wrong_token_is_told_and_the_rollout_goes_on_with_the_right_one(scene: Scene) -> None:
    def password(value: str) -> None:
        data = {"data": {"password": base64.b64encode(value.encode()).decode()}}
        scene.space.must("patch", "secret", "fleet-git", "--type=merge", "-p", json.dumps(data))

    password("canary-wrong")
    scene.start()
    wait_for(lambda: scene.state() == "GitFailed", "the word of it")
    assert "does not accept the username and password" in scene.rollout()["status"]["git"]["message"]
    assert "canary" not in scene.log.read_text() + scene.space.must("get", "modelrollouts,events", "-o", "yaml")
    password(TOKEN)
    # Seen at once by an operator that begins; one that runs tries again every 30 s.
    scene.space.operator.restart()
    scene.ends("RolledOut")


def test_a_secret_that_is_not_for_this_host_is_not_sent(scene: Scene) -> None:
    scene.space.must("annotate", "secret", "fleet-git", "coppice.dev/git-host-")
    scene.start()
    wait_for(lambda: scene.state() == "GitFailed", "the word of it")
    assert "annotate it with coppice.dev/git-host: 127.0.0.1" in scene.rollout()["status"]["git"]["message"]
    assert len(scene.repository.messages()) == 1
