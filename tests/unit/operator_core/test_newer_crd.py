"""An upgrade brings the CRDs first: the operator before it then sees defaults of fields that it does not know."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from coppice_operator.plan import CreateObject, Plan
from coppice_operator.prunejob.observation import PruneJobObservation
from coppice_operator.prunejob.plan import plan
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.plan import plan as plan_rollout
from tests.builders import model_rollout, prune_job

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
METADATA = {"name": "digits", "namespace": "default", "uid": "u-1", "generation": 1, "resourceVersion": "7"}
Json = dict[str, Any]


def decide(prunejob: Json, *jobs: Json) -> Plan:
    return plan(PruneJobObservation(prunejob=prunejob, jobs={job["metadata"]["name"]: job for job in jobs}), NOW)


@pytest.fixture
def begun() -> tuple[Json, Json]:
    """A PruneJob that was decided about once, and its Job."""
    prunejob = {**prune_job(hardware=[{"name": "a"}]), "metadata": METADATA}
    first = decide(prunejob)
    (create,) = first.actions
    assert isinstance(create, CreateObject)
    return {**prunejob, "status": first.status}, create.manifest


def newer(prunejob: Json, **changes: Any) -> Json:
    seen = copy.deepcopy(prunejob)
    seen["metadata"].update(changes)
    seen["spec"].setdefault("algorithm", {})["fineTune"] = {"warmupSteps": 100}
    seen["spec"]["hardware"][0]["spot"] = False
    return seen


def test_a_run_goes_on_as_if_the_field_were_not_there(begun: tuple[Json, Json]) -> None:
    prunejob, job = begun
    found = decide(newer(prunejob), job)
    assert found.actions == ()
    assert found == decide(prunejob, job)


def test_what_a_person_sets_now_is_not_ignored_in_silence(begun: tuple[Json, Json]) -> None:
    prunejob, job = begun
    found = decide(newer(prunejob, generation=2), job)
    assert found.actions == ()
    assert found.status is not None
    assert found.status["state"] == "Unsupported"
    assert "warmupSteps" in str(found.status["conditions"])


def test_one_that_was_refused_stays_refused(begun: tuple[Json, Json]) -> None:
    prunejob, job = begun
    seen = newer(prunejob, generation=2)
    refused = decide(seen, job).status
    assert decide({**seen, "status": refused}, job).status == refused


def test_a_value_out_of_range_is_still_unreadable(begun: tuple[Json, Json]) -> None:
    prunejob, job = begun
    seen = newer(prunejob)
    seen["spec"]["objective"]["energyReductionPercent"] = 99
    status = decide(seen, job).status
    assert status is not None
    assert status["state"] == "Unsupported"


def test_a_rollout_goes_on_likewise() -> None:
    rollout = {**model_rollout(), "metadata": METADATA}
    first = plan_rollout(RolloutObservation(rollout=rollout), NOW).status
    assert first is not None
    seen = copy.deepcopy({**rollout, "status": first})
    seen["spec"]["targets"][0]["weight"] = 1
    assert plan_rollout(RolloutObservation(rollout=seen), NOW).status == first
