"""A rollout whose target no watch has told of yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from coppice_operator.cache import Cache
from coppice_operator.clock import Clock
from coppice_operator.kube import KubeError
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.queue import WorkQueue
from coppice_operator.reconciler import Reconciler
from coppice_operator.watching import WATCHED
from coppice_operator.writer import Writer
from tests.unit.operator_rollout.simulator import Simulation, deployment, rollout

Json = dict[str, Any]


class Server:
    """Lists Deployments, and keeps the last status written."""

    def __init__(self, deployments: list[Json], document: Json) -> None:
        self.document, self.version = {"kind": "ModelRollout", **document}, 99
        self.deployments, self.selectors, self.paths = deployments, list[str](), list[str]()
        self.status: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

    async def pages(self, path: str, **query: str) -> AsyncIterator[Json]:
        self.paths.append(path)
        raise KubeError(404, "the server could not find the requested resource")
        yield {}

    async def list_all(self, path: str, **query: str) -> list[Json]:
        self.selectors.append(query["fieldSelector"])
        return self.deployments

    async def json_patch(self, path: str, body: list[Json]) -> Json:
        return {}

    async def create(self, path: str, body: Json) -> Json:
        return {**body, "metadata": {**body["metadata"], "uid": "e", "resourceVersion": "99"}}

    async def replace(self, path: str, body: Json) -> Json:
        if not self.status.done():
            self.status.set_result(body["status"])
        return await self.merge(path, body)

    async def merge(self, path: str, body: Json) -> Json:
        self.version += 1
        metadata = {**self.document["metadata"], **body.get("metadata", {}), "resourceVersion": str(self.version)}
        self.document = {**self.document, **body, "metadata": metadata}
        return self.document


async def first_status(reconciler: Reconciler, server: Server) -> Json:
    """What a reconciler at work writes first."""
    working = asyncio.create_task(reconciler.run())
    try:
        return await asyncio.wait_for(server.status, 10)
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


@pytest.mark.parametrize(("there", "state"), [(True, "RollingOut"), (False, "RollingBack")])
async def test_a_target_is_looked_up_before_it_is_said_to_be_deleted(there: bool, state: str) -> None:
    began = Simulation(rollout("digits-a"), [deployment("digits-a")])
    began.step()
    document = began.rollout
    document["metadata"] |= {"uid": "r", "resourceVersion": "1"}
    # The status that says so is the one thing that is missing from what the pass would write.
    document["status"] = {**document["status"], "state": "Unsaid"}
    cache, queue = Cache(), WorkQueue()
    cache.put("ModelRollout", {"kind": "ModelRollout", **document})
    found = {**began.fleet["digits-a"]}
    found["metadata"] = {**found["metadata"], "uid": "d", "resourceVersion": "1"}
    server = Server([found] if there else [], document)
    reconciler = Reconciler(
        cache, queue, Writer(server, cache), OperatorMetrics(), server, default_image="coppice:test",  # type: ignore[arg-type]
        clock=Clock(lambda: began.now, lambda: 0.0),
    )  # fmt: skip
    status = await first_status(reconciler, server)
    assert server.selectors[0] == "metadata.name=digits-a"
    assert status["state"] == state


@pytest.mark.parametrize("watched", [True, False])
async def test_a_kind_that_nobody_watches_is_listed_for_a_rollout_that_names_it(watched: bool) -> None:
    target = {"kind": "InferenceService", "name": "digits", "inject": {"storageUri": True}}
    document = rollout(targets=[target])
    document["metadata"] |= {"uid": "r", "resourceVersion": "1"}
    cache, queue = Cache(), WorkQueue()
    cache.put("ModelRollout", {"kind": "ModelRollout", **document})
    server = Server([], document)
    reconciler = Reconciler(
        cache, queue, Writer(server, cache), OperatorMetrics(), server, default_image="coppice:test",  # type: ignore[arg-type]
    )  # fmt: skip
    reconciler.unwatched = [] if watched else [item for item in WATCHED if item.optional]
    status = await first_status(reconciler, server)
    assert status["state"] == ("TargetNotFound" if watched else "KindUnavailable")
    listed = "/apis/serving.kserve.io/v1beta1/namespaces/fleet/inferenceservices"
    assert set(server.paths) == (set() if watched else {listed})
