"""Listing again, against a collection in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from coppice_operator import lister as module
from coppice_operator.cache import Cache
from coppice_operator.kube import KubeError
from coppice_operator.lister import Lister
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.watching import WATCHED

Json = dict[str, Any]


def item(name: str, version: int = 1) -> Json:
    metadata = {"name": name, "namespace": "default", "uid": f"u-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata}


class Collections:
    """What the API server holds, by plural."""

    def __init__(self) -> None:
        self.held: dict[str, list[Json]] = {}
        self.lists: list[tuple[str, str]] = []
        self.failures = 0
        self.refused: dict[str, int] = {}
        """Statuses by plural."""

    async def pages(self, path: str, **query: str) -> AsyncIterator[Json]:
        self.lists.append((path, query.get("labelSelector", "")))
        if self.failures:
            self.failures -= 1
            raise KubeError(503, "no")
        plural = path.rpartition("/")[2]
        if plural in self.refused:
            raise KubeError(self.refused[plural], "no")
        yield {"metadata": {"resourceVersion": "100"}, "items": self.held.get(path.rpartition("/")[2], [])}


class World:
    def __init__(self, *namespaces: str) -> None:
        self.api, self.cache, self.told = Collections(), Cache(), list[tuple[str, str]]()
        self.lister = Lister(
            self.api,  # type: ignore[arg-type]
            self.cache,
            WATCHED,
            namespaces,
            self._hear,
            OperatorMetrics(),
        )
        self.heard = asyncio.Event()

    def _hear(self, kind: str, item: Json) -> None:
        self.told.append((kind, item["metadata"]["name"]))
        self.heard.set()


async def test_each_namespace_is_listed_children_first_and_by_label_where_others_have_them_too() -> None:
    world = World("a", "b")
    await world.lister.prime(asyncio.Event())
    assert world.api.lists[:4] == [
        ("/apis/batch/v1/namespaces/a/jobs", "coppice.dev/prunejob"),
        ("/apis/batch/v1/namespaces/b/jobs", "coppice.dev/prunejob"),
        ("/api/v1/namespaces/a/pods", "coppice.dev/prunejob"),
        ("/api/v1/namespaces/b/pods", "coppice.dev/prunejob"),
    ]
    assert world.api.lists[-1] == ("/apis/coppice.dev/v1alpha1/namespaces/b/prunejobs", "")


async def test_a_list_that_fails_is_tried_again_before_anything_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.001)
    world = World()
    world.api.held["prunejobs"] = [item("digits")]
    world.api.failures = 3
    await world.lister.prime(asyncio.Event())
    assert world.cache.count("PruneJob") == 1


async def test_a_watch_that_begins_again_has_everything_listed_and_parents_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)
    world = World()
    world.api.held = {"jobs": [item("job")], "prunejobs": [item("digits"), item("stays")]}
    await world.lister.prime(asyncio.Event())
    running = asyncio.create_task(world.lister.run())
    for name in ("digits", "stays"):
        world.lister.heard(None, item(name))
    await asyncio.sleep(0)
    lists = len(world.api.lists)
    # Both went while nobody watched.
    world.api.held = {"prunejobs": [item("stays")]}
    world.lister.heard(None, item("stays"))
    await asyncio.wait_for(world.heard.wait(), 5)
    running.cancel()
    assert world.told == [("PruneJob", "digits"), ("Job", "job")]
    assert len(world.api.lists) == lists + len(WATCHED)


@pytest.mark.parametrize("status", [403, 404])
async def test_a_kind_of_another_project_is_done_without(status: int) -> None:
    world = World("a", "b")
    world.api.refused = {"inferenceservices": status}
    world.api.held["prunejobs"] = [item("digits")]
    await world.lister.prime(asyncio.Event())
    assert {watched.kind for watched in WATCHED} - {watched.kind for watched in world.lister.watched} == {
        "InferenceService"
    }
    assert world.cache.count("PruneJob") == 1


async def test_a_kind_of_another_project_that_goes_later_holds_no_list_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(module, "FIRST_RELIST_SECONDS", 0.001)
    world = World()
    await world.lister.prime(asyncio.Event())
    world.api.refused = {"inferenceservices": 404}
    world.api.held["prunejobs"] = [item("digits")]
    running = asyncio.create_task(world.lister.run())
    await asyncio.wait_for(world.heard.wait(), 5)
    running.cancel()
    assert world.told == [("PruneJob", "digits")]
