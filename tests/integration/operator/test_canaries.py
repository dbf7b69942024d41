"""Secrets planted everywhere a user may put one; then everything that the operator shows is searched for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from coppice_api.base import Provenance
from coppice_api.run import Outcome, RunReport
from devcluster import Cluster
from tests.integration.conftest import Kubectl
from tests.integration.operator.support import Space, operated, report
from tests.waiting import wait_for

CANARIES = {name: f"c4n4ry-{name}" for name in ("s3", "git", "prometheus", "model", "dataset", "berlin", "rome")}
RUN = {"model__uri": f"https://ada:{CANARIES['model']}@models.example/digits",
       "dataset__uri": f"https://ada:{CANARIES['dataset']}@data.example/digits",
       "run__credentialsSecretName": "s3"}  # fmt: skip
FLEET = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "digits-a"},
    "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "a"}}, "template": {
        "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "server", "image": "i"}]}}},
}  # fmt: skip


@pytest.fixture
def space(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> Iterator[Space]:
    with operated(cluster, kubectl, "t-canaries", tmp_path / "operator.log") as space:
        yield space


def secret(space: Space, name: str, **values: str) -> None:
    space.must("create", "secret", "generic", name, *(f"--from-literal={key}={value}" for key, value in values.items()))


def kubeconfig(**user: Any) -> str:
    return yaml.safe_dump({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": user}],
    })  # fmt: skip


def shown(space: Space, log: Path) -> str:
    """Everything that somebody without the right to read Secrets may see, but for what users wrote into specs."""
    objects = [*space.items("prunejobs"), *space.items("modelrollouts"), *space.items("jobs")]
    said = []
    for item in objects:
        # kubectl's copy of what the user applied.
        noted = {key: text for key, text in (item["metadata"].get("annotations") or {}).items() if "kubectl" not in key}
        said.append({"status": item.get("status"), "labels": item["metadata"].get("labels"), "annotations": noted})
    told = [item for event in space.items("events") for item in (event["message"], event.get("reason"))]
    return json.dumps([said, told]) + space.operator.get("/metrics") + log.read_text()


def test_no_planted_secret_is_shown_anywhere(space: Space, tmp_path: Path) -> None:
    secret(space, "s3", AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY=CANARIES["s3"])
    secret(space, "git", username="ada", password=CANARIES["git"])
    space.must("annotate", "secret", "git", "coppice.dev/git-host=127.0.0.1")
    secret(space, "prometheus", token=CANARIES["prometheus"])
    space.must("annotate", "secret", "prometheus", "coppice.dev/prometheus-address=http://127.0.0.1:1")
    secret(space, "berlin", kubeconfig=kubeconfig(token=CANARIES["berlin"]))
    secret(space, "rome", kubeconfig=kubeconfig(exec={"command": CANARIES["rome"]}))
    space.must("annotate", "secret", "berlin", "rome", "coppice.dev/cluster=rollouts")
    space.must("create", "-f", "-", stdin=FLEET)
    # Refused: the pod quotes the URI that it was given, as the pruner once did.
    space.apply("refused", **RUN)
    wait_for(lambda: space.items("pods"), "the run's pod")
    message = f"spec.model.uri {RUN['model__uri']} holds no model, {RUN['dataset__uri']} no data"
    quoted = json.dumps({"outcome": Outcome.INPUT_REFUSED.value, "message": message})
    assert RunReport.model_validate_json(quoted).message == message
    space.finish(4, quoted)
    wait_for(lambda: space.condition("Stalled", "refused")[0] == "True", "the refusal")
    assert "https://***@models.example/digits holds no model" in space.condition("Stalled", "refused")[2]
    space.must("delete", "prunejob", "refused")
    wait_for(lambda: not space.items("pods"), "the end of its pod")
    # Met, and rolled out through a repository, a Prometheus and clusters that do not answer.
    for name, extra in (
        ("git", {"strategy": {"delivery": "Git", "git": {
            "repository": "https://127.0.0.1:1/fleet.git", "path": "kustomization.yaml",
            "credentialsSecretName": "git"}}}),
        ("prometheus", {"analysis": {
            "prometheus": {"address": "http://127.0.0.1:1", "credentialsSecretName": "prometheus"},
            "checks": [{"name": "energy", "preset": "energyPerInference", "thresholdRange": {"max": "1"}}]}}),
        ("clusters", {"targets": [{"name": "digits-a", "cluster": "berlin"}, {"name": "digits-a", "cluster": "rome"}]}),
    ):  # fmt: skip
        space.apply(name, **RUN, rollout={"targets": [{"name": "digits-a"}], **extra})
        space.finish(0, report())
        wait_for(lambda: space.items("modelrollouts"), "the rollout")
        wait_for(
            lambda: space.items("modelrollouts")[0].get("status", {}).get("conditions"), f"a word of the rollout {name}"
        )
        found = shown(space, tmp_path / "operator.log")
        for planted in CANARIES.values():
            where = found.find(planted)
            assert where < 0, found[max(0, where - 300) : where + 100]
        assert Provenance.ESTIMATED in found
        space.must("delete", "prunejob", name)
        wait_for(lambda: not space.items("modelrollouts") and not space.items("pods"), "the end of them")
