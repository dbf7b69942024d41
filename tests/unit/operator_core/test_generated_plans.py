"""What the CRDs let in, the operator can read and plan, however odd it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings

from coppice_api import crd
from coppice_api.modelrollout import ModelRollout
from coppice_api.prunejob import PruneJob
from coppice_operator.plan import CreateObject
from coppice_operator.prunejob.observation import PruneJobObservation
from coppice_operator.prunejob.plan import plan as plan_prunejob
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.plan import plan as plan_rollout
from tests.generated import model_rollouts, prune_jobs
from tests.unit.operator_rollout.simulator import deployment

Json = dict[str, Any]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUICK = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def stored(document: Json) -> Json:
    document["metadata"] = {
        "name": "odd", "namespace": "fleet", "uid": "u", "generation": 1, "resourceVersion": "1",
        "creationTimestamp": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    return document


@QUICK
@given(prune_jobs())
def test_any_prunejob_is_read_planned_and_settled(document: Json) -> None:
    stored(document)
    assert crd.validate(PruneJob, document) == []
    first = plan_prunejob(PruneJobObservation(prunejob=document, default_image="coppice:test"), NOW)
    assert first.status is not None
    assert first.status["observedGeneration"] == 1
    document["status"] = first.status
    jobs = {}
    for action in first.actions:
        assert isinstance(action, CreateObject)
        json.dumps(action.manifest)
        assert len(action.manifest["metadata"]["name"]) <= 63
        if action.manifest["kind"] == "Job":
            jobs[action.manifest["metadata"]["name"]] = {**action.manifest, "status": {}}
    assert len(jobs) in (0, len(document["spec"].get("hardware", [0])))
    second = plan_prunejob(PruneJobObservation(prunejob=document, jobs=jobs, default_image="coppice:test"), NOW)
    assert (second.status, second.actions, second.events) == (first.status, (), ())


@QUICK
@given(model_rollouts())
def test_any_modelrollout_is_read_and_planned(document: Json) -> None:
    stored(document)
    assert crd.validate(ModelRollout, document) == []
    names = [target["name"] for target in document["spec"]["targets"] if "name" in target]
    for workloads in ((), tuple(deployment(name) for name in dict.fromkeys(names))):
        document.pop("status", None)
        for _ in range(3):
            made = plan_rollout(RolloutObservation(rollout=document, workloads=workloads), NOW)
            assert made.status is not None
            assert made.status["observedGeneration"] == 1
            again = {**document, "status": made.status}
            assert crd.validate(ModelRollout, again) == []
            document["status"] = made.status
