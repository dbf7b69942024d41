"""Every kind of target under the real controllers; KServe's controller is a stand-in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster
from tests.builders import DIGEST
from tests.integration.conftest import Kubectl
from tests.integration.operator.faults.api import Api, ApiError, Json, path_of
from tests.integration.operator.faults.world import World
from tests.integration.operator.kinds.scene import CRD, RESOURCES, URI, Fleet
from tests.kserve import stand_in
from tests.waiting import wait_for

MODEL = f"{URI}#sha256={DIGEST}"
KINDS = tuple(RESOURCES)
APPS = KINDS[:3]
AT_ONCE = {"waves": [{"targets": "100%"}]}


@contextmanager
def installed(api: Api, crd: Json) -> Iterator[None]:
    """KServe's CRD, for as long as the block lasts."""
    api.create("", "customresourcedefinitions", crd)

    def served() -> bool:
        try:
            api.call("GET", path_of("", "inferenceservices"))
        except ApiError:
            return False
        return True

    try:
        wait_for(served, "KServe's CRD")
        yield
    finally:
        # The server may have closed a connection that nobody used for long.
        api.close()
        api.delete("", "customresourcedefinitions", CRD)
        wait_for(lambda: api.get("", "customresourcedefinitions", CRD) is None, "the end of KServe's CRD")


@contextmanager
def node(api: Api, name: str) -> Iterator[str]:
    """A node that nothing but a DaemonSet's pods goes to; no kubelet is behind it."""
    api.call("POST", "/api/v1/nodes", {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"unschedulable": True},
        "status": {"capacity": {"pods": "10", "cpu": "4", "memory": "8Gi"}},
    })  # fmt: skip
    try:
        yield name
    finally:
        api.close()
        api.delete("", "nodes", name)


@pytest.fixture
def begin(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes a fleet, with KServe's CRD there before its operator starts, or not at all."""
    api = Api(cluster)

    @contextmanager
    def made(crd: Json | None = stand_in.REDUCED) -> Iterator[Fleet]:
        name = f"kinds-{secrets.token_hex(3)}"
        with node(api, name):
            if crd is None:
                with World(cluster, name, tmp_path) as world:
                    yield Fleet(world, name)
                return
            with installed(api, crd), World(cluster, name, tmp_path) as world:
                yield Fleet(world, name)

    yield made
    api.close()


def rolled(fleet: Fleet, *kinds: str, **spec: Any) -> None:
    """Create a rollout to one workload of each of these kinds, all of one name."""
    fleet.world.rollout(targets=[fleet.target(kind) for kind in kinds], **spec)


def changes(fleet: Fleet, resource: str) -> int:
    """How often the operator has written a target of a kind."""
    return sum(write.kind == f"patch {resource}" and write.status == 200 for write in fleet.world.proxy.writes)


@pytest.mark.parametrize("crd", [stand_in.REDUCED, stand_in.minimal()], ids=["typed", "minimal"])
def test_one_of_each_kind_gets_the_model_once_and_gets_back_exactly_what_it_had(
    begin: Callable[..., Any], crd: Json
) -> None:
    with begin(crd) as fleet:
        for kind in KINDS:
            fleet.add(kind)
        fleet.healthy(*KINDS)
        before = {kind: fleet.get(kind)["spec"] for kind in KINDS}
        rolled(fleet, *KINDS, strategy={"waves": [{"targets": 1}, {"targets": "100%"}], "maxUnavailable": 2})
        fleet.ends("RolledOut")
        assert [fleet.model_of(kind) for kind in KINDS] == [MODEL, MODEL, MODEL, URI]
        assert {resource: changes(fleet, resource) for resource in RESOURCES.values()} == dict.fromkeys(
            RESOURCES.values(), 1
        )
        targets = fleet.world.get("modelrollouts")["status"]["targets"]
        # Ordered by name, and those of one name by kind.
        assert [(item["kind"], item["state"], item["wave"]) for item in targets] == [
            ("DaemonSet", "Updated", 1), ("Deployment", "Updated", 2), ("InferenceService", "Updated", 2),
            ("StatefulSet", "Updated", 2),
        ]  # fmt: skip
        pods = {pod["metadata"]["name"]: pod["spec"]["containers"][0].get("env") for pod in fleet.world.items("pods")}
        assert pods["web-0"] == pods["web-1"] == [{"name": "MODEL_URI", "value": MODEL}]
        fleet.world.edit("modelrollouts", "digits", spec={"withdrawn": True})
        fleet.ends("RolledBack")
        assert {kind: fleet.get(kind)["spec"] for kind in KINDS} == before


def test_a_bad_model_on_one_kind_takes_the_others_back(begin: Callable[..., Any]) -> None:
    with begin() as fleet:
        for kind in KINDS:
            fleet.add(kind)
        fleet.healthy(*KINDS)
        before = {kind: fleet.get(kind)["spec"] for kind in KINDS}
        fleet.world.sick.add("web-daemonset")
        rolled(fleet, *KINDS, strategy={**AT_ONCE, "progressDeadlineSeconds": 8})
        fleet.ends("RolledBack")
        assert {kind: fleet.get(kind)["spec"] for kind in KINDS} == before
        status = fleet.world.get("modelrollouts")["status"]
        assert status["failureReason"] == "ProgressDeadlineExceeded"
        assert "DaemonSet web did not become available" in status["failureMessage"]


def test_a_stateful_set_whose_pod_never_came_up_has_its_template_back_and_says_what_is_left(
    begin: Callable[..., Any],
) -> None:
    with begin(None) as fleet:
        fleet.add("StatefulSet")
        fleet.healthy("StatefulSet")
        before = fleet.get("StatefulSet")["spec"]
        fleet.world.sick.add("web-statefulset")
        rolled(fleet, "StatefulSet", strategy={**AT_ONCE, "progressDeadlineSeconds": 4})
        fleet.ends("RolledBack")
        assert fleet.get("StatefulSet")["spec"] == before
        (target,) = fleet.world.get("modelrollouts")["status"]["targets"]
        assert target["state"] == "Blocked"
        assert target["message"].endswith(
            "a StatefulSet does not replace a pod that never became ready: delete that pod"
        )
        ill = next(pod for pod in fleet.world.items("pods") if pod["spec"]["containers"][0].get("env"))
        fleet.world.delete("pods", ill["metadata"]["name"])
        fleet.until(lambda: (fleet.get("StatefulSet")["status"]).get("availableReplicas") == 2, "both pods")


@pytest.mark.parametrize(
    ("kind", "strategy", "want"),
    [
        ("StatefulSet", {"type": "OnDelete"}, "StatefulSet web replaces a pod only when somebody deletes it"),
        ("StatefulSet", {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}, "keeps its pods below number 1"),
        ("DaemonSet", {"type": "OnDelete"}, "DaemonSet web replaces a pod only when somebody deletes it"),
    ],
    ids=["OnDelete", "partition", "OnDelete on nodes"],
)
def test_one_that_replaces_no_pods_is_not_touched_until_it_does(
    begin: Callable[..., Any], kind: str, strategy: Json, want: str
) -> None:
    with begin(None) as fleet:
        fleet.add(kind, updateStrategy=strategy)
        fleet.healthy(kind)
        rolled(fleet, kind, strategy=AT_ONCE)
        fleet.ends("TargetUnhealthy")
        assert want in fleet.world.condition("Ready", resource="modelrollouts")[2]
        assert fleet.model_of(kind) is None
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0} if kind == "StatefulSet" else None}
        fleet.world.edit(RESOURCES[kind], "web", spec={"updateStrategy": rolling})
        fleet.ends("RolledOut")
        assert fleet.model_of(kind) == MODEL


def test_a_selector_finds_those_of_its_own_kind(begin: Callable[..., Any]) -> None:
    with begin(None) as fleet:
        for kind in APPS:
            fleet.add(kind)
            fleet.world.edit(RESOURCES[kind], "web", metadata={"labels": {"fleet": "digits"}})
        fleet.healthy(*APPS)
        selector = {"matchLabels": {"fleet": "digits"}}
        fleet.world.rollout(targets=[{"kind": "StatefulSet", "selector": selector}], strategy=AT_ONCE)
        fleet.ends("RolledOut")
        assert {kind: fleet.model_of(kind) for kind in APPS} == {
            "Deployment": None, "StatefulSet": MODEL, "DaemonSet": None,
        }  # fmt: skip


def test_without_kserve_a_rollout_to_it_says_so_and_goes_on_when_it_is_installed(begin: Callable[..., Any]) -> None:
    with begin(None) as fleet:
        fleet.add("Deployment")
        fleet.healthy("Deployment")
        rolled(fleet, "Deployment", "InferenceService", strategy=AT_ONCE)
        fleet.ends("KindUnavailable")
        message = fleet.world.condition("Stalled", resource="modelrollouts")[2]
        assert "targets[1]: the cluster has no kind InferenceService (serving.kserve.io/v1beta1)" in message
        assert fleet.model_of("Deployment") is None
        # The operator was not started again.
        with installed(fleet.world.api, stand_in.REDUCED):
            fleet.add("InferenceService")
            fleet.ends("RolledOut")
            assert [fleet.model_of(kind) for kind in ("Deployment", "InferenceService")] == [MODEL, URI]
