"""Reading Deployments."""

from __future__ import annotations

from typing import Any

import pytest

from coppice_operator.rollout.workload import EnvField, complete, env_field, unhealthy
from tests.unit.operator_rollout.simulator import DENSE, deployment


@pytest.mark.parametrize(
    ("status", "want"),
    [
        ({}, True),
        ({"observedGeneration": 0}, False),
        ({"updatedReplicas": 0}, False),
        ({"replicas": 2}, False),
        ({"availableReplicas": 0}, False),
        ({"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}, False),
    ],
    ids=["complete", "not-observed", "not-updated", "old-replica-left", "not-available", "deadline"],
)
def test_a_rollout_is_complete_when_all_replicas_are_new_and_available(status: dict[str, Any], want: bool) -> None:
    workload = deployment("web")
    workload["status"].update(status)
    assert complete(workload) is want


def test_a_deployment_scaled_to_zero_is_complete() -> None:
    workload = deployment("web")
    workload["spec"]["replicas"] = 0
    workload["status"] = {"observedGeneration": 1}
    assert complete(workload)


def test_a_deployment_without_status_is_neither_complete_nor_healthy() -> None:
    workload = deployment("web")
    del workload["status"]
    assert not complete(workload)
    assert unhealthy(workload) == "Deployment web has a change that its controller has not seen yet"


def test_the_place_of_a_variable_is_found() -> None:
    assert env_field(deployment("web"), "server", "MODEL_URI") == EnvField(0, 1, DENSE)
    assert env_field(deployment("web", None), "server", "MODEL_URI") == EnvField(0, None, None)
