"""One rollout over two control planes: the page as written, a cluster that goes at any time, and credentials that end.

The other cluster's account has the rights of the page and no more. Deployments have no pods: nothing runs them here,
and the real controller says of such a Deployment that it is complete.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import Cluster, ClusterOptions
from tests import pages
from tests.builders import model_rollout
from tests.integration.conftest import Kubectl
from tests.integration.operator.support import Operator, Space
from tests.waiting import wait_for

Json = dict[str, Any]
PAGE = "docs/how-to/several-clusters.md"
DENSE = "pvc://models/dense"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def other() -> Iterator[Cluster]:
    """The other cluster."""
    with Cluster(ClusterOptions(name="berlin", scheduler=False)) as running:
        yield running


@dataclass
class Pair:
    """A namespace in both clusters, and an operator in one of them."""

    here: Space
    there: Space
    other: Cluster
    directory: Path
    environment: dict[str, str]

    def values(self) -> dict[str, str]:
        """What each Deployment's MODEL_URI holds."""
        return {
            item["metadata"]["name"]: item["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
            for space in (self.here, self.there)
            for item in space.items("deployments")
        }

    def run(self, *lines: str) -> str:
        """Run lines of a shell as the page's are."""
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)], cwd=self.directory, capture_output=True, text=True,
            timeout=60, check=False, env={**os.environ, **self.environment},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    def rollout(self) -> Json:
        """The rollout as it is stored."""
        return dict(json.loads(self.here.must("get", "modelrollout", "fleet", "-o", "json")))

    def status(self) -> Json:
        """Its status."""
        return dict(self.rollout().get("status", {}))

    def states(self) -> dict[str, str]:
        """Its targets' states."""
        return {target["name"]: target["state"] for target in self.status().get("targets", ())}

    def edit(self, **spec: Any) -> None:
        """Change its spec."""
        self.here.must("patch", "modelrollout", "fleet", "--type=merge", "-p", json.dumps({"spec": spec}))

    def wait(self, state: str) -> None:
        """Wait until it is in a state."""
        # A controller whose API server was away comes back in its own time.
        wait_for(lambda: self.status().get("state") == state, f"{state}, in {self.directory}", deadline_seconds=180)


def deployment(name: str) -> Json:
    container = {"name": "server", "image": "i", "env": [{"name": "MODEL_URI", "value": DENSE}]}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}},
    }  # fmt: skip


def without_pods(kind: str, name: str) -> Json:
    """A workload of another kind that is complete with no pod: no replica, or no node it could be on."""
    made = {**deployment(name), "kind": kind}
    if kind == "StatefulSet":
        return {**made, "spec": {**made["spec"], "serviceName": name}}
    return {**made, "spec": {key: value for key, value in made["spec"].items() if key != "replicas"}}


def in_namespace(kubeconfig: Path, namespace: str, to: Path) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = namespace
    to.write_text(yaml.safe_dump(config))


@contextmanager
def pair(cluster: Cluster, kubectl: Kubectl, other: Cluster, name: str, directory: Path) -> Iterator[Pair]:
    """Give a namespace in both clusters, and an operator in one."""
    there = Kubectl(other.kubectl, other.kubeconfig)
    for tool in (kubectl, there):
        tool.must("create", "namespace", name)
    in_namespace(cluster.kubeconfig, name, directory / "home.yaml")
    in_namespace(other.kubeconfig, name, directory / "berlin-admin.yaml")
    environment = {
        "KUBECONFIG": str(directory / "home.yaml"),
        "PATH": f"{cluster.kubectl.parent}:{os.environ['PATH']}",
    }
    operator = Operator(cluster, name, directory / "operator.log")
    try:
        wait_for(operator.ready, "the operator")
        spaces = (Space(kubectl, name, operator), Space(there, name, operator))
        yield Pair(*spaces, other, directory, environment)
    finally:
        operator.process.terminate()
        operator.process.wait(timeout=30)
        for tool in (kubectl, there):
            tool.must("delete", "namespace", name, "--wait=false")


@pytest.fixture
def fleet(cluster: Cluster, kubectl: Kubectl, other: Cluster, repository: Path, tmp_path: Path) -> Iterator[Pair]:
    """Two Deployments in each cluster, and the page's account."""
    with pair(cluster, kubectl, other, f"t-clusters-{next(NUMBERS)}", tmp_path) as made:
        for space, names in ((made.here, "ac"), (made.there, "bd")):
            for letter in names:
                space.must("create", "-f", "-", stdin=deployment(letter))
        page = repository / PAGE
        (tmp_path / "coppice-remote.yaml").write_text(pages.files(page)["coppice-remote.yaml"])
        commands = pages.commands(page)
        made.run(*commands[: next(i for i, line in enumerate(commands) if "apply -f rollout.yaml" in line)])
        yield made


def begin(fleet: Pair, **strategy: Any) -> None:
    """Create a rollout to all four whose second wave wants approval, and wait until the first is done."""
    targets = [{"name": "a"}, {"name": "b", "cluster": "berlin"}, {"name": "c"}, {"name": "d", "cluster": "berlin"}]
    document = model_rollout(targets=targets, strategy={
        "waves": [{"targets": 1}, {"targets": "100%", "approval": True}], **strategy,
    })  # fmt: skip
    document["metadata"]["name"] = "fleet"
    document["spec"]["minimumProvenance"] = "Estimated"
    fleet.here.must("create", "-f", "-", stdin=document)
    fleet.wait("WaitingForApproval")
    assert fleet.states()["a"] == "Updated"


def approve(fleet: Pair) -> None:
    fleet.edit(strategy={"approvedWave": 2})


def test_the_page_works_as_written(
    cluster: Cluster, kubectl: Kubectl, other: Cluster, repository: Path, tmp_path: Path
) -> None:
    with pair(cluster, kubectl, other, "page-several-clusters", tmp_path) as made:
        for space in (made.here, made.there):
            space.must("create", "-f", "-", stdin=deployment("recommender"))
        said = pages.follow(repository / PAGE, tmp_path, made.environment, timeout_seconds=240)
        assert "berlin true" in said
        model = yaml.safe_load(pages.files(repository / PAGE)["rollout.yaml"])["spec"]["models"][0]
        assert f"{model['uri']}#sha256={model['sha256']}" in said
        # The account can do what the page says, and nothing else.
        may = "kubectl --kubeconfig berlin.yaml auth can-i"
        asked = ("patch deployments", "get secrets", "create pods", "delete deployments", "list deployments -A")
        said = made.run(*(f"{may} {what} || true" for what in asked))
        assert said.split() == ["yes", "no", "no", "no", "no"]


def test_a_cluster_that_goes_holds_its_own_and_the_operator_may_die_meanwhile(fleet: Pair) -> None:
    begin(fleet)
    fleet.other.stop_component("kube-apiserver")
    try:
        wait_for(lambda: not fleet.status()["clusters"][0]["reachable"], "a word of the cluster that is away")
        approve(fleet)
        fleet.wait("ClusterUnreachable")
        assert fleet.states() == {"a": "Updated", "b": "Pending", "c": "Updated", "d": "Pending"}
        (seen,) = fleet.status()["clusters"]
        assert seen["message"] == (
            "cluster berlin: its API server cannot be reached: see to it, or mend server in Secret berlin"
        )
        ready = fleet.status()["conditions"][0]["message"]
        assert ready == f"2 of 4 targets have the new model; 2 targets are held: {seen['message']}"
        fleet.here.operator.restart()
        wait_for(fleet.here.operator.ready, "the operator")
        assert "coppice_rollout_cluster_reachable" in fleet.here.operator.get("/metrics")
        assert fleet.status()["state"] == "ClusterUnreachable"
    finally:
        fleet.other.start_component("kube-apiserver")
    fleet.wait("RolledOut")
    assert len(set(fleet.values().values())) == 1
    assert DENSE not in fleet.values().values()


def test_the_way_back_waits_for_a_cluster_and_ends_with_it(fleet: Pair) -> None:
    begin(fleet)
    approve(fleet)
    fleet.wait("RolledOut")
    fleet.other.stop_component("kube-apiserver")
    try:
        fleet.edit(withdrawn=True)
        wait_for(lambda: (fleet.states()["a"], fleet.states()["c"]) == ("RolledBack", "RolledBack"), "the way back")
        assert fleet.status()["state"] == "RollingBack"
        assert "cluster berlin: " in fleet.status()["conditions"][0]["message"]
        fleet.here.operator.restart()
        wait_for(fleet.here.operator.ready, "the operator")
    finally:
        fleet.other.start_component("kube-apiserver")
    fleet.wait("RolledBack")
    assert fleet.values() == dict.fromkeys("abcd", DENSE)


def test_a_token_that_is_not_known_any_more_is_said_and_a_new_one_taken(fleet: Pair, repository: Path) -> None:
    begin(fleet)
    fleet.there.must("delete", "serviceaccount", "coppice")
    fleet.there.must("create", "serviceaccount", "coppice")
    old = Kubectl(fleet.other.kubectl, fleet.directory / "berlin.yaml")
    # An API server remembers for a while that it knew a token.
    wait_for(lambda: old.run("get", "deployments").returncode != 0, "the end of the old token")
    approve(fleet)
    fleet.wait("ClusterUnreachable")
    assert fleet.status()["clusters"][0]["message"] == (
        "cluster berlin: its API server does not know the token or certificate of Secret berlin (any more): put a new "
        "one into it"
    )
    again = pages.commands(repository / PAGE)[-3:]
    assert "create token" in again[0]
    fleet.run(*again)
    fleet.wait("RolledOut")


@pytest.mark.parametrize(
    ("breakage", "want"),
    [
        ({"metadata": {"annotations": {"coppice.dev/cluster": None}}}, "annotate it with coppice.dev/cluster"),
        ({"data": {"kubeconfig": base64.b64encode(b"users: [").decode()}}, "the kubeconfig is not YAML"),
        (None, "there is no Secret berlin in the rollout's namespace"),
    ],
    ids=["unannotated", "malformed", "missing"],
)  # fmt: skip
def test_a_secret_that_cannot_be_used_is_said_and_nothing_of_it_shown(
    fleet: Pair, breakage: Json | None, want: str
) -> None:
    before = json.loads(fleet.here.must("get", "secret", "berlin", "-o", "json"))
    if breakage is None:
        fleet.here.must("delete", "secret", "berlin")
    else:
        fleet.here.must("patch", "secret", "berlin", "--type=merge", "-p", json.dumps(breakage))
    begin(fleet)
    approve(fleet)
    fleet.wait("ClusterUnreachable")
    assert want in fleet.status()["clusters"][0]["message"]
    token = yaml.safe_load(base64.b64decode(before["data"]["kubeconfig"]))["users"][0]["user"]["token"]
    log = (fleet.directory / "operator.log").read_text()
    events = fleet.here.must("get", "events", "-o", "json")
    assert token not in json.dumps(fleet.rollout()) + log + events + fleet.here.operator.get("/metrics")
    before["metadata"] = {key: before["metadata"][key] for key in ("name", "annotations")}
    fleet.here.must("delete", "secret", "berlin", "--ignore-not-found")
    fleet.here.must("create", "-f", "-", stdin=before)
    fleet.wait("RolledOut")
    # A rollout that was begun without a cluster has its targets in the end.
    assert sorted(fleet.states()) == ["a", "b", "c", "d"]


def test_rights_that_are_missing_are_named(fleet: Pair) -> None:
    fleet.there.must("delete", "rolebinding", "coppice")
    begin(fleet)
    approve(fleet)
    fleet.wait("ClusterUnreachable")
    assert "may not list and watch Deployment there (403)" in fleet.status()["clusters"][0]["message"]


def test_other_kinds_in_another_cluster_go_there_and_back(fleet: Pair) -> None:
    kinds = {"s": "StatefulSet", "e": "DaemonSet"}
    for name, kind in kinds.items():
        fleet.there.must("create", "-f", "-", stdin=without_pods(kind, name))
    document = model_rollout(targets=[
        {"name": "a"}, *({"kind": kind, "name": name, "cluster": "berlin"} for name, kind in kinds.items()),
    ])  # fmt: skip
    document["metadata"]["name"] = "fleet"
    document["spec"]["minimumProvenance"] = "Estimated"

    def held() -> dict[str, str]:
        return {
            item["metadata"]["name"]: item["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
            for item in fleet.there.items("statefulsets,daemonsets")
        }

    before = held()
    assert before == dict.fromkeys(kinds, DENSE)
    fleet.here.must("create", "-f", "-", stdin=document)
    fleet.wait("RolledOut")
    model = document["spec"]["models"][0]
    assert held() == dict.fromkeys(kinds, f"{model['uri']}#sha256={model['sha256']}")
    fleet.edit(withdrawn=True)
    fleet.wait("RolledBack")
    assert held() == before
