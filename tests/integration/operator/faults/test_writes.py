"""How many writes a PruneJob costs the API server, Events among them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.operator.faults.api import Json
from tests.integration.operator.faults.world import World

NODE = "bookkeeping"
ANYWHERE: list[Json] = [{"name": "default", "tolerations": [{"operator": "Exists"}]}]
"""The node controller taints a node that nobody beats for."""


@pytest.fixture
def node(world: World) -> Iterator[World]:
    """A world with a node that the scheduler takes for real: without one the first word is `Unschedulable`."""
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": None, "lastTransitionTime": None}
    room = {"cpu": "64", "memory": "256Gi", "pods": "110", "ephemeral-storage": "1Ti", "nvidia.com/gpu": "8"}
    path = "/api/v1/nodes"
    world.api.call("POST", path, {"metadata": {"name": NODE}})
    status = {"capacity": room, "allocatable": room, "conditions": [ready]}
    world.api.call("PATCH", f"{path}/{NODE}/status", {"status": status}, "application/merge-patch+json")
    try:
        yield world
    finally:
        world.api.call("DELETE", f"{path}/{NODE}")


def kinds(world: World) -> list[str]:
    world.until(world.settled, "quiet")
    return sorted(write.kind for write in world.proxy.writes)


def test_settling_is_one_job_and_one_status(world: World) -> None:
    # Its Job waits for a queue, so that nothing follows.
    world.prunejob(run__queueName="none")
    world.until(lambda: world.state() == "Pending" and world.jobs(), "the Job and the status")
    assert kinds(world) == ["create jobs", "update prunejobs/status"]
    world.operator.restart()
    world.until(world.operator.ready, "the operator")
    assert len(kinds(world)) == 2


def test_a_good_life_is_six_writes(node: World) -> None:
    node.begin()
    node.prunejob(hardware=ANYWHERE, model__uri="s3://models/digits", output__uri="s3://models/runs")
    node.until(lambda: node.state() == "Running", "the run")
    node.finish()
    node.until(lambda: node.holds("Ready"), "the end")
    # Written last.
    node.until(lambda: "TargetMet" in node.events(), "the Event")
    assert "Running: default: pod digits" in node.events()
    assert kinds(node) == ["create events"] * 2 + ["create jobs"] + ["update prunejobs/status"] * 3, node.events()
