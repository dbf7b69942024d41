"""Every kind of target: what it holds, how it is written, and what healthy and complete mean for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coppice_api.modelrollout import RolloutModel, Target, TargetKey, TargetKind
from coppice_operator.plan import ApplyObject, JsonPatchObject
from coppice_operator.rollout.kinds import KINDS, FieldUnreadableError, Where, Workload, by_key
from coppice_operator.rollout.kinds.inference_service import ANNOTATION_SOURCE
from coppice_operator.rollout.kinds.pod_template import EnvField, PodTemplateWorkload
from tests.builders import DIGEST
from tests.unit.operator_rollout.controllers import (
    DENSE,
    MAKERS,
    PARTS,
    Object,
    daemon_set,
    deployment,
    hold,
    inference_service,
    roll,
    stateful_set,
    with_parts,
)

NEW = "pvc://fleet-models/runs/pruned"
PLACE = Where("server", "MODEL_URI")


def seen(body: Object) -> Workload:
    """A workload as a pass sees it, with what was made for it."""
    kind = TargetKind(body["kind"])
    return by_key(with_parts(body))[TargetKey(body["metadata"]["name"], kind)]


def place_of(body: Object) -> Where:
    return Where() if body["kind"] == "InferenceService" else PLACE


def with_status(make: Callable[[str], Object], **status: Any) -> Workload:
    body = make("web")
    body["status"].update(status)
    return seen(body)


@pytest.mark.parametrize("make", MAKERS)
def test_a_new_one_is_healthy_complete_and_holds_what_it_was_given(make: Callable[..., Object]) -> None:
    body = make("web")
    workload = seen(body)
    assert workload.held(place_of(body)) == DENSE
    assert seen(make("web", None)).held(place_of(body)) is None
    assert workload.unhealthy() is None and workload.complete(DENSE) and not workload.down() and not workload.failed()
    assert workload.available_pods() == 1


@pytest.mark.parametrize("make", MAKERS)
def test_a_change_that_nobody_has_acted_on_is_neither_healthy_nor_complete(make: Callable[..., Object]) -> None:
    body = make("web")
    if body["kind"] == "InferenceService":
        body["spec"]["predictor"]["model"]["storageUri"] = NEW
    roll(body)
    assert not seen(body).complete(NEW)
    assert f"{body['kind']} web has a change that" in (seen(body).unhealthy() or "")


@pytest.mark.parametrize("make", MAKERS)
def test_without_a_status_it_is_neither(make: Callable[..., Object]) -> None:
    body = make("web")
    for item in (body, *body.get(PARTS, ())):
        del item["status"]
    assert not seen(body).complete(DENSE) and seen(body).unhealthy()


@pytest.mark.parametrize("make", MAKERS)
def test_what_replaces_no_pods_is_not_touched_and_said_by_name(make: Callable[..., Object]) -> None:
    body = make("web")
    hold(body, True)
    words = {
        "Deployment": "Deployment web is paused",
        "StatefulSet": "StatefulSet web keeps its pods below number 1 on what they have",
        "DaemonSet": "DaemonSet web replaces a pod only when somebody deletes it (updateStrategy OnDelete)",
        "InferenceService": "InferenceService web is stopped (annotation serving.kserve.io/stop)",
    }
    assert (seen(body).unhealthy() or "").startswith(words[body["kind"]])
    hold(body, False)
    assert seen(body).unhealthy() is None


def test_a_stateful_set_that_waits_for_deletions_is_not_touched() -> None:
    body = stateful_set("web")
    body["spec"]["updateStrategy"] = {"type": "OnDelete"}
    assert "updateStrategy OnDelete" in (seen(body).unhealthy() or "")


@pytest.mark.parametrize(
    ("make", "status", "want"),
    [
        pytest.param(deployment, {"updatedReplicas": 0}, False, id="not updated"),
        pytest.param(deployment, {"replicas": 2}, False, id="an old replica is left"),
        pytest.param(deployment, {"availableReplicas": 0}, False, id="not available"),
        pytest.param(
            deployment, {"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]}, False,
            id="its own deadline",
        ),
        pytest.param(stateful_set, {"updateRevision": "web-2"}, False, id="an older revision"),
        pytest.param(stateful_set, {"updatedReplicas": 0}, False, id="no pod of the new revision"),
        pytest.param(stateful_set, {"availableReplicas": 0}, False, id="a pod not available"),
        pytest.param(daemon_set, {"desiredNumberScheduled": 2}, False, id="a node without it"),
        pytest.param(daemon_set, {"numberAvailable": 0}, False, id="a node where it is not available"),
        pytest.param(daemon_set, {"desiredNumberScheduled": 0, "updatedNumberScheduled": 0, "numberAvailable": 0}, True,
                     id="no node at all"),
        pytest.param(inference_service, {"conditions": [{"type": "Ready", "status": "False"}]}, False, id="not ready"),
        pytest.param(inference_service, {"modelStatus": {"transitionStatus": "BlockedByFailedLoad"}}, False,
                     id="does not load"),
    ],
)  # fmt: skip
def test_it_is_complete_when_every_pod_is_new_and_available(
    make: Callable[[str], Object], status: Object, want: bool
) -> None:
    assert with_status(make, **status).complete(DENSE) is want


@pytest.mark.parametrize("make", [deployment, stateful_set])
def test_what_is_scaled_to_zero_is_complete(make: Callable[[str], Object]) -> None:
    body = make("web")
    body["spec"]["replicas"] = 0
    body["status"] = {"observedGeneration": 1}
    assert seen(body).complete(DENSE)


@pytest.mark.parametrize(
    ("make", "status", "want"),
    [
        (stateful_set, {"availableReplicas": 6}, False),
        (stateful_set, {"availableReplicas": 5}, True),
        (daemon_set, {"desiredNumberScheduled": 8, "numberAvailable": 6}, False),
        (daemon_set, {"desiredNumberScheduled": 8, "numberAvailable": 5}, True),
        (stateful_set, {"availableReplicas": 0, "one": 1}, True),
    ],
)
def test_a_quarter_of_the_pods_may_be_away_for_long(make: Callable[[str], Object], status: Object, want: bool) -> None:
    body = make("web")
    body["spec"]["replicas"] = 1 if status.pop("one", None) else 8
    body["status"].update(status)
    assert seen(body).down() is want


def test_the_place_of_a_variable_is_found() -> None:
    for value, want in ((DENSE, EnvField(0, 1, DENSE)), (None, EnvField(0, None, None))):
        workload = seen(deployment("web", value))
        assert isinstance(workload, PodTemplateWorkload)
        assert workload.env_field(PLACE) == want


@pytest.mark.parametrize("make", [deployment, stateful_set, daemon_set])
def test_server_side_apply_names_one_variable_of_its_own_kind(make: Callable[[str], Object]) -> None:
    action = seen(make("web")).giving(PLACE, NEW)
    assert isinstance(action, ApplyObject)
    containers = [{"name": "server", "env": [{"name": "MODEL_URI", "value": NEW}]}]
    assert action.manifest == {
        "apiVersion": "apps/v1",
        "kind": make("web")["kind"],
        "metadata": {"name": "web", "namespace": "fleet"},
        "spec": {"template": {"spec": {"containers": containers}}},
    }


@pytest.mark.parametrize(
    ("before", "want"),
    [(DENSE, [("test", DENSE), ("replace", NEW)]), (None, [("add", NEW)])],
)
def test_a_storage_uri_is_patched_only_while_it_is_what_it_was(before: str | None, want: list[tuple[str, str]]) -> None:
    action = seen(inference_service("web", before)).giving(Where(), NEW)
    assert isinstance(action, JsonPatchObject) and action.api_version == "serving.kserve.io/v1beta1"
    assert [(item["op"], item["value"]) for item in action.patch] == want
    assert {item["path"] for item in action.patch} == {"/spec/predictor/model/storageUri"}


def test_a_digest_travels_where_a_server_reads_it() -> None:
    model = RolloutModel(name="m", uri=NEW, sha256=DIGEST)
    assert {kind: of.reference(model) for kind, of in KINDS.items()} == {
        **dict.fromkeys(KINDS, f"{NEW}#sha256={DIGEST}"),
        TargetKind.INFERENCE_SERVICE: NEW,
    }


class TestInferenceService:
    """What is KServe's own."""

    @pytest.mark.parametrize(
        ("predictor", "want"),
        [
            ({"sklearn": {"storageUri": "s3://a"}}, "has no spec.predictor.model"),
            ({"containers": [{"name": "kserve-container"}]}, "has no spec.predictor.model"),
            ({"model": {"storage": {"key": "s3"}}}, "takes its model from spec.predictor.model.storage"),
            ({"model": {"modelFormat": {}}, "storageUris": [{"uri": "s3://a"}]}, "from spec.predictor.storageUris"),
        ],
        ids=["framework", "containers", "storage", "several"],
    )
    def test_a_model_from_elsewhere_is_refused(self, predictor: Object, want: str) -> None:
        body = inference_service("web")
        body["spec"]["predictor"] = predictor
        with pytest.raises(FieldUnreadableError, match=want):
            seen(body).where(Target(kind=TargetKind.INFERENCE_SERVICE, name="web"))

    @pytest.mark.parametrize(
        ("change", "want"),
        [
            ({"spec": {"canaryTrafficPercent": 20}}, "divides its traffic itself (canaryTrafficPercent 20)"),
            ({"status": {"deploymentMode": "ModelMesh"}}, "served by ModelMesh"),
            ({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "PredictorNotReady"}]}},
             "is not ready: PredictorNotReady"),
            ({"status": {"conditions": [], "modelStatus": {"lastFailureInfo": {"reason": "ModelLoadFailed",
                                                                               "message": "no such bucket"}}}},
             "is not ready: KServe says ModelLoadFailed: no such bucket"),
        ],
        ids=["canary", "modelmesh", "not ready", "does not load"],
    )  # fmt: skip
    def test_what_cannot_be_judged_or_is_ill_is_not_touched(self, change: Object, want: str) -> None:
        body = inference_service("web")
        body["spec"]["predictor"].update(change.get("spec", {}))
        body["status"].update(change.get("status", {}))
        assert want in (seen(body).unhealthy() or "")

    def test_ready_says_nothing_while_its_deployment_loads_another_model_or_rolls(self) -> None:
        body = inference_service("web", NEW)
        assert seen(body).complete(NEW) and not seen(body).complete(DENSE)
        body[PARTS][0]["status"]["updatedReplicas"] = 0
        assert not seen(body).complete(NEW)

    def test_a_deployment_that_gives_up_is_its_failure(self) -> None:
        body = inference_service("web")
        body[PARTS][0]["status"]["conditions"] += [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]
        assert seen(body).failed()
        assert with_status(inference_service, modelStatus={"transitionStatus": "InvalidSpec"}).failed()

    @pytest.mark.parametrize(
        ("created", "ready", "want"),
        [("web-2", "web-2", True), ("web-2", "web-1", False), ("web-1", "web-1", False)],
        ids=["newest is ready", "newest is not ready", "nothing new yet"],
    )
    def test_with_knative_the_newest_revision_counts_also_when_an_older_one_had_the_same_model(
        self, created: str, ready: str, want: bool
    ) -> None:
        body = inference_service("web", DENSE)
        body["status"]["components"] = {"predictor": {"latestCreatedRevision": created, "latestReadyRevision": ready}}
        old, new = (deployment(f"{name}-deployment", None) for name in ("web-1", "web-2"))
        for part, revision, source in ((old, "web-1", NEW), (new, "web-2", DENSE)):
            part["metadata"]["labels"] = {
                "serving.kserve.io/inferenceservice": "web", "component": "predictor",
                "serving.knative.dev/revision": revision,
            }  # fmt: skip
            part["spec"]["template"]["metadata"] = {"annotations": {ANNOTATION_SOURCE: source}}
        body[PARTS] = [old, new]
        assert seen(body).complete(DENSE) is want

    @pytest.mark.parametrize(("generation", "want"), [(1, True), (2, False)])
    def test_without_any_deployment_its_own_generation_has_to_do(self, generation: int, want: bool) -> None:
        body = inference_service("web")
        body[PARTS] = []
        body["metadata"]["generation"] = generation
        assert seen(body).complete(DENSE) is want


@pytest.mark.parametrize(
    ("kind", "pods", "others"),
    [
        (TargetKind.DEPLOYMENT, ["web-6d4cf56db6-x2v9q"], ["web-0", "web-b-6d4cf56db6-x2v9q"]),
        (TargetKind.STATEFUL_SET, ["web-0", "web-12"], ["web-6d4cf56db6-x2v9q", "web-b-0"]),
        (TargetKind.DAEMON_SET, ["web-x2v9q"], ["web-6d4cf56db6-x2v9q", "web-b-x2v9q"]),
        (
            TargetKind.INFERENCE_SERVICE,
            ["web-predictor-6d4cf56db6-x2v9q", "web-predictor-00002-deployment-6d4cf56db6-x2v9q",
             "web-predictor-default-6d4cf56db6-x2v9q"],
            ["web-6d4cf56db6-x2v9q", "web-transformer-6d4cf56db6-x2v9q"],
        ),
    ],
)  # fmt: skip
def test_a_target_has_its_own_pods_and_no_others(kind: TargetKind, pods: list[str], others: list[str]) -> None:
    import re

    pattern = re.compile(KINDS[kind].pods("web"))
    assert all(pattern.fullmatch(name) for name in pods)
    # A name that goes on with more parts is another target's, as far as names can tell.
    assert not any(pattern.fullmatch(name) for name in others)
