"""The shell around the planners: queue, cache, writer and metrics, without a cluster."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from coppice_operator.cache import Cache
from coppice_operator.kube import KubeError, collection_path, object_path
from coppice_operator.plan import ApplyObject, CreateObject, DeleteObject, Event, EventType, JsonPatchObject, Plan
from coppice_operator.queue import FIRST_BACK_OFF_SECONDS, LAST_BACK_OFF_SECONDS, Key, WorkQueue
from coppice_operator.refusals import FIRST_WAIT_SECONDS, LAST_WAIT_SECONDS, Refusals
from coppice_operator.writer import RefusedError, StaleError, Writer

Json = dict[str, Any]
A, B = Key("PruneJob", "default", "a"), Key("PruneJob", "default", "b")


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def item(name: str = "digits", version: int = 1, uid: str = "u-1", **fields: Any) -> Json:
    metadata = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": str(version)}
    return {"kind": "PruneJob", "metadata": metadata, **fields}


async def test_a_key_is_worked_on_once_however_often_it_is_added() -> None:
    queue = WorkQueue(Clock())
    for _ in range(3):
        queue.add(A)
    assert await queue.get() == A
    assert len(queue) == 0


async def test_a_key_that_is_worked_on_waits_until_that_is_done() -> None:
    queue = WorkQueue(Clock())
    queue.add(A)
    await queue.get()
    queue.add(A)
    queue.add(B)
    assert await queue.get() == B
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not getting.done()
    queue.done(A)
    assert await asyncio.wait_for(getting, 1) == A


@pytest.mark.parametrize("turns", range(6))
async def test_who_waits_for_a_key_can_be_told_to_end_in_the_moment_of_a_change(turns: int) -> None:
    queue = WorkQueue()

    async def work() -> None:
        while True:
            await queue.get()

    queue.add(A, 60)
    worker = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    queue.add(B, 30)
    for _ in range(turns):
        await asyncio.sleep(0)
    worker.cancel()
    await asyncio.wait({worker}, timeout=1)
    assert worker.cancelled()


async def test_the_earlier_time_wins() -> None:
    clock = Clock()
    queue = WorkQueue(clock)
    queue.add(A, 60)
    queue.add(A, 5)
    queue.add(A, 90)
    assert len(queue) == 0
    clock.seconds += 6
    assert len(queue) == 1
    assert queue.oldest_seconds() == pytest.approx(1)
    assert await queue.get() == A
    clock.seconds += 1000
    assert len(queue) == 0


async def test_failures_back_off_and_success_forgets_them() -> None:
    clock = Clock()
    queue = WorkQueue(clock)
    waits = []
    for _ in range(12):
        queue.add(A)
        await queue.get()
        waits.append(queue.failed(A))
        clock.seconds += 1000
    assert FIRST_BACK_OFF_SECONDS <= waits[0] <= FIRST_BACK_OFF_SECONDS * 1.2
    assert waits[3] > waits[0]
    assert LAST_BACK_OFF_SECONDS <= waits[-1] <= LAST_BACK_OFF_SECONDS * 1.2
    await queue.get()
    queue.done(A)
    queue.add(A)
    await queue.get()
    assert queue.failed(A) <= FIRST_BACK_OFF_SECONDS * 1.2


async def test_a_pass_may_ask_to_be_repeated() -> None:
    clock = Clock()
    queue = WorkQueue(clock)
    queue.add(A)
    await queue.get()
    queue.done(A, 30)
    assert len(queue) == 0
    clock.seconds += 31
    assert await queue.get() == A


def test_the_cache_never_shows_the_past() -> None:
    cache = Cache()
    assert cache.put("PruneJob", item(version=5))
    assert not cache.put("PruneJob", item(version=5))
    assert not cache.put("PruneJob", item(version=4))
    assert cache.put("PruneJob", item(version=6))
    # Made again under its name: another life, whatever its version.
    assert cache.put("PruneJob", item(version=1, uid="u-2"))
    cache.remove("PruneJob", item(uid="u-1"))
    assert cache.get("PruneJob", ("default", "digits")) is not None
    cache.remove("PruneJob", item(uid="u-2"))
    assert cache.get("PruneJob", ("default", "digits")) is None


def test_the_cache_finds_children_by_their_label_whatever_became_of_them() -> None:
    cache = Cache()

    def child(name: str, label: str | None, version: int, uid: str = "u") -> Json:
        labels = {} if label is None else {"labels": {"coppice.dev/prunejob": label}}
        return {"metadata": {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(version), **labels}}

    def found(label: str) -> list[str]:
        return [item["metadata"]["name"] for item in cache.labelled("Job", "n", label)]

    cache.put("Job", child("j", "one", 1))
    cache.put("Job", child("k", "one", 2))
    cache.put("Job", child("l", None, 3))
    assert (found("one"), found("")) == (["j", "k"], [])
    assert cache.labelled("Pod", "n", "one") == cache.labelled("Job", "m", "one") == []
    # A person moves one, and takes the other's label; a stale event brings neither back.
    cache.put("Job", child("j", "two", 4))
    cache.put("Job", child("k", None, 5))
    cache.put("Job", child("j", "one", 1))
    assert (found("one"), found("two")) == ([], ["j"])
    # Made again under its name by then: the end of the first is no news.
    cache.put("Job", child("j", "two", 6, "v"))
    cache.remove("Job", child("j", "two", 4))
    assert found("two") == ["j"]
    cache.remove("Job", child("j", "two", 7, "v"))
    assert found("two") == []
    assert cache._children == {}


def test_the_cache_leaves_out_what_nobody_reads() -> None:
    cache = Cache()
    fat = item()
    fat["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    cache.put("PruneJob", fat)
    assert "managedFields" not in (cache.get("PruneJob", ("default", "digits")) or {})["metadata"]
    assert list(cache.in_namespace("PruneJob", "default")) == ["digits"]
    assert not cache.in_namespace("PruneJob", "other")
    job = {**item(), "spec": {"suspend": True, "template": {"spec": {"containers": []}}}}
    cache.put("Job", job)
    assert (cache.get("Job", ("default", "digits")) or {})["spec"] == {"suspend": True}
    assert "template" in job["spec"]


def test_the_cache_takes_what_the_api_server_takes() -> None:
    cache = Cache()
    odd = {**item(), "status": {"message": "half a character: \ud800"}}
    cache.put("PruneJob", odd)
    assert (cache.get("PruneJob", ("default", "digits")) or {})["status"] == odd["status"]


def test_the_cache_knows_which_pods_run_without_reading_the_others() -> None:
    cache = Cache()
    for name, phase in (("a", "Running"), ("b", "Succeeded"), ("c", "Pending")):
        cache.put("Pod", {"metadata": {"namespace": "n", "name": name, "uid": name}, "status": {"phase": phase}})
    assert [pod["metadata"]["name"] for pod in cache.all("Pod", phase="Running")] == ["a"]
    assert cache.places("Pod") == [("n", "a"), ("n", "b"), ("n", "c")]
    assert cache.places("Pod", "m") == []


class FakeKube:
    """Records requests, answers with what it was sent, and fails where told."""

    def __init__(self, failing: dict[str, int] | None = None) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.failing = failing or {}
        self.stored: Json = {}
        """What `get` finds."""

    async def _do(self, verb: str, path: str, body: Any) -> Json:
        self.requests.append((verb, path, body))
        if verb in self.failing:
            raise KubeError(self.failing[verb], "no")
        answer = {**item(version=9), **(body if isinstance(body, dict) else {})}
        metadata = {**item(version=9)["metadata"], **answer.get("metadata", {}), "resourceVersion": "9"}
        return {**answer, "metadata": metadata}

    async def get(self, path: str, **query: str) -> Json:
        return await self._do("get", path, self.stored)

    async def create(self, path: str, body: Json) -> Json:
        return await self._do("create", path, body)

    async def replace(self, path: str, body: Json) -> Json:
        return await self._do("replace", path, body)

    async def merge(self, path: str, body: Json) -> Json:
        return await self._do("merge", path, body)

    async def json_patch(self, path: str, body: list[Json]) -> Json:
        return await self._do("json_patch", path, body)

    async def apply(self, path: str, body: Json) -> Json:
        return await self._do("apply", path, body)

    async def delete(self, path: str, body: Json) -> Json:
        return await self._do("delete", path, body)


JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "default", "uid": "u-j"}}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"}}
EVENT = Event(EventType.NORMAL, "JobCreated", "created Job j")


def writer(kube: FakeKube) -> tuple[Writer, Cache, list[str]]:
    cache, wrote = Cache(), list[str]()
    return Writer(kube, cache, lambda kind, _item: wrote.append(kind)), cache, wrote  # type: ignore[arg-type]


async def test_status_goes_before_actions_and_events_come_last() -> None:
    kube = FakeKube()
    subject, cache, wrote = writer(kube)
    await subject.carry_out(Plan({"state": "x"}, (CreateObject(JOB),), (EVENT,)), "PruneJob", item())
    assert [(verb, path.rpartition("/")[2]) for verb, path, _ in kube.requests] == [
        ("replace", "status"), ("create", "jobs"), ("create", "events"),
    ]  # fmt: skip
    # Both writes are known at once, without waiting for their events.
    assert (cache.get("PruneJob", ("default", "digits")) or {})["metadata"]["resourceVersion"] == "9"
    assert cache.get("Job", ("default", "j")) is not None
    assert wrote == ["Job"]


async def test_nothing_is_written_when_nothing_changed() -> None:
    kube = FakeKube()
    await writer(kube)[0].carry_out(Plan({"state": "x"}), "PruneJob", item(status={"state": "x"}))
    await writer(kube)[0].carry_out(Plan(), "PruneJob", item(status={"state": "x"}))
    assert kube.requests == []


async def test_a_status_is_written_only_over_the_one_that_was_seen() -> None:
    kube = FakeKube()
    await writer(kube)[0].carry_out(Plan({"state": "y"}), "PruneJob", item(version=5, status={"state": "x", "old": 1}))
    (_, _, body), = kube.requests  # fmt: skip
    assert body["metadata"] == {"namespace": "default", "name": "digits", "resourceVersion": "5"}
    assert body["status"] == {"state": "y"}


@pytest.mark.parametrize(("verb", "status"), [("replace", 409), ("replace", 404)])
async def test_a_status_that_is_stale_stops_the_plan(verb: str, status: int) -> None:
    kube = FakeKube({verb: status})
    with pytest.raises(StaleError):
        await writer(kube)[0].carry_out(Plan({"state": "y"}, (CreateObject(JOB),)), "PruneJob", item())
    assert [request[0] for request in kube.requests] == ["replace"]


@pytest.mark.parametrize("found", [None, "u-other", "going"])
async def test_no_child_is_made_for_a_parent_that_is_gone(found: str | None) -> None:
    kube = FakeKube({"get": 404} if found is None else {})
    kube.stored = item(uid="u-other" if found == "u-other" else "u-1")
    if found == "going":
        kube.stored["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    with pytest.raises(StaleError):
        await writer(kube)[0].carry_out(Plan(None, (CreateObject(JOB),)), "PruneJob", item())
    assert [request[0] for request in kube.requests] == ["get"]


async def test_a_child_that_exists_is_as_good_as_created() -> None:
    kube = FakeKube({"create": 409})
    subject, _, wrote = writer(kube)
    await subject.carry_out(Plan({"state": "x"}, (CreateObject(JOB),)), "PruneJob", item())
    assert [request[0] for request in kube.requests] == ["replace", "create", "get"]
    assert wrote == ["Job"]


@pytest.mark.parametrize("owner", ["u-1", "u-other"])
async def test_a_child_that_lost_its_labels_gets_them_back_and_a_strangers_does_not(owner: str) -> None:
    kube = FakeKube({"create": 409})
    subject, _, _ = writer(kube)
    place = {"name": "j", "namespace": "default", "uid": "u-j"}
    wanted = {**place, "labels": {"ours": "yes"}, "ownerReferences": [{"uid": "u-1"}]}
    kube.stored = {**JOB, "metadata": {**place, "ownerReferences": [{"uid": owner}]}}
    await subject.carry_out(Plan({"state": "x"}, (CreateObject({**JOB, "metadata": wanted}),)), "PruneJob", item())
    merges = [body for verb, _, body in kube.requests if verb == "merge"]
    assert merges == ([{"metadata": {"labels": {"ours": "yes"}}}] if owner == "u-1" else [])


@pytest.mark.parametrize(
    ("action", "failing"),
    [
        (ApplyObject(TARGET), {"apply": 404}),
        (JsonPatchObject("apps/v1", "Deployment", "default", "d", ({"op": "test"},)), {"json_patch": 422}),
    ],
    ids=["apply", "test of a patch"],
)
async def test_a_target_that_is_not_what_it_seemed_is_looked_at_again(action: Any, failing: dict[str, int]) -> None:
    with pytest.raises(StaleError):
        await writer(FakeKube(failing))[0].carry_out(Plan(None, (action,)), "ModelRollout", item())


@pytest.mark.parametrize("status", [403, 422])
async def test_a_child_that_is_refused_is_told_of_and_holds_up_no_other(status: int) -> None:
    kube = FakeKube()
    other = {**JOB, "metadata": {**JOB["metadata"], "name": "k"}}
    refuse = kube._do

    async def refusing(verb: str, path: str, body: Any) -> Json:
        answer = await refuse(verb, path, body)
        if path.endswith("/jobs") and body["metadata"]["name"] == "j":
            raise KubeError(status, "quota exceeded")
        return answer

    kube._do = refusing  # type: ignore[method-assign]
    subject, cache, _ = writer(kube)
    plan = Plan(None, (CreateObject(JOB), CreateObject(other)), (EVENT,))
    with pytest.raises(RefusedError, match="quota exceeded") as refusal:
        await subject.carry_out(plan, "PruneJob", item())
    assert list(refusal.value.children) == ["j"]
    assert cache.get("Job", ("default", "k")) is not None
    told = [body for verb, path, body in kube.requests if path.endswith("/events")]
    assert [(event["type"], event["reason"]) for event in told] == [("Warning", "ChildRefused")]
    assert "the API server does not take Job j: " in told[0]["message"]
    assert "quota exceeded" in told[0]["message"]


async def test_what_is_refused_again_in_the_same_words_is_told_once_and_a_job_waits_for_its_service() -> None:
    kube = FakeKube({"create": 403})
    ours = {"labels": {"coppice.dev/hardware": "h100"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default", **ours}}
    plan = Plan(None, (CreateObject(service), CreateObject({**JOB, "metadata": {**JOB["metadata"], **ours}})))
    subject = writer(kube)[0]
    with pytest.raises(RefusedError) as refusal:
        await subject.carry_out(plan, "PruneJob", item())
    # The second is of the Event, which is refused too.
    assert [path.rpartition("/")[2] for verb, path, _ in kube.requests if verb == "create"] == ["services", "events"]
    assert set(refusal.value.children) == {"s", "j"}
    kube.requests.clear()
    with pytest.raises(RefusedError):
        await subject.carry_out(plan, "PruneJob", item(), list(refusal.value.children.values()))
    assert [path.rpartition("/")[2] for verb, path, _ in kube.requests if verb == "create"] == ["services"]


def test_the_api_server_is_asked_again_after_longer_and_longer_waits_whatever_happens_meanwhile() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    waits = []
    for _ in range(9):
        waits.append(refusals.note(A, {"j": "no"}))
        assert refusals.of(A)["j"].wait_seconds == pytest.approx(waits[-1])
        clock.seconds += waits[-1] / 2
        assert refusals.of(A)["j"].wait_seconds > 0
        clock.seconds += waits[-1]
        assert refusals.of(A)["j"].wait_seconds == 0
    assert FIRST_WAIT_SECONDS <= waits[0] <= FIRST_WAIT_SECONDS * 1.2
    assert LAST_WAIT_SECONDS <= waits[-1] <= LAST_WAIT_SECONDS * 1.2
    assert refusals.of(B) == {}
    refusals.forget(A)
    assert refusals.of(A) == {}


def test_a_child_that_is_not_asked_for_yet_stays_refused_when_another_is() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    refusals.note(A, {"j": "no"})
    refusals.note(A, {"k": "no"})
    assert set(refusals.of(A)) == {"j", "k"}
    clock.seconds += 10
    refusals.note(A, {"k": "no"})
    assert set(refusals.of(A)) == {"k"}


async def test_a_server_that_fails_is_not_taken_for_staleness() -> None:
    with pytest.raises(KubeError):
        await writer(FakeKube({"apply": 500}))[0].carry_out(Plan(None, (ApplyObject(TARGET),)), "ModelRollout", item())


async def test_what_is_gone_already_is_deleted_well_enough() -> None:
    action = DeleteObject("batch/v1", "Job", "default", "j", "u-j")
    kube = FakeKube({"delete": 404})
    await writer(kube)[0].carry_out(Plan(None, (action,)), "PruneJob", item())
    assert kube.requests[0][2]["preconditions"] == {"uid": "u-j"}


async def test_an_event_that_cannot_be_written_stops_nothing() -> None:
    await writer(FakeKube({"create": 500}))[0].carry_out(Plan(None, (), (EVENT,)), "PruneJob", item())


async def test_an_event_for_the_log_only_is_no_write() -> None:
    kube = FakeKube()
    await writer(kube)[0].carry_out(Plan(None, (), (dataclasses.replace(EVENT, written=False),)), "PruneJob", item())
    assert kube.requests == []


async def test_the_same_event_again_counts_up() -> None:
    kube = FakeKube({"create": 409})
    await writer(kube)[0].carry_out(Plan(None, (), (EVENT,)), "PruneJob", item())
    assert [request[0] for request in kube.requests] == ["create", "get", "merge"]
    assert kube.requests[-1][2]["count"] == 2
    assert kube.requests[0][2]["metadata"]["name"] == kube.requests[1][1].rpartition("/")[2]


def test_paths() -> None:
    assert collection_path("v1", "Pod", None) == "/api/v1/pods"
    assert object_path("batch/v1", "Job", "n", "j") == "/apis/batch/v1/namespaces/n/jobs/j"


async def test_what_is_under_way_ends_and_nothing_else_begins() -> None:
    queue = WorkQueue(Clock())
    queue.add(A)
    await queue.get()
    queue.add(B)
    draining = asyncio.create_task(queue.drain())
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not draining.done()
    queue.done(A)
    await asyncio.wait_for(draining, 1)
    assert not getting.done()
    getting.cancel()
    # The next term begins with nothing, and works.
    queue.clear()
    assert len(queue) == 0
    queue.add(B)
    assert await queue.get() == B


def page(*items: Json, version: int = 10) -> Json:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


def names(cache: Cache) -> set[str]:
    return {found["metadata"]["name"] for found in cache.all("PruneJob")}


def test_a_list_finds_what_the_watches_missed() -> None:
    cache = Cache()
    for name in ("stays", "changes", "goes"):
        cache.put("PruneJob", item(name, version=3, uid=name))
    with cache.listing("PruneJob", None) as listing:
        news = listing.page(page(item("stays", version=3, uid="stays")))
        news += listing.page(page(item("changes", version=7, uid="changes"), item("comes", version=8, uid="comes")))
        gone = listing.missing()
    assert [name for _, name in news] == ["changes", "comes"]
    assert [found["metadata"]["name"] for found in gone] == ["goes"]
    assert names(cache) == {"stays", "changes", "comes"}


def test_a_list_does_not_undo_what_is_newer_than_it() -> None:
    cache = Cache()
    cache.put("PruneJob", item("deleted-meanwhile", version=3, uid="u-d"))
    cache.put("PruneJob", item("made-again-meanwhile", version=3, uid="u-old"))
    with cache.listing("PruneJob", None) as listing:
        # While the list was on its way: two went, one came back, one was made by a write of ours.
        cache.remove("PruneJob", item("deleted-meanwhile", uid="u-d"))
        cache.remove("PruneJob", item("made-again-meanwhile", uid="u-old"))
        cache.put("PruneJob", item("made-again-meanwhile", version=12, uid="u-new"))
        cache.put("PruneJob", item("written-meanwhile", version=11, uid="u-w"))
        old = page(
            item("deleted-meanwhile", version=3, uid="u-d"), item("made-again-meanwhile", version=3, uid="u-old")
        )
        assert listing.page(old) == []
        assert listing.missing() == []
    assert names(cache) == {"made-again-meanwhile", "written-meanwhile"}
    assert (cache.get("PruneJob", ("default", "made-again-meanwhile")) or {})["metadata"]["uid"] == "u-new"


def test_the_list_of_a_namespace_says_nothing_of_another() -> None:
    cache = Cache()
    cache.put("PruneJob", item("here"))
    with cache.listing("PruneJob", "elsewhere") as listing:
        listing.page(page())
        assert listing.missing() == []
    assert names(cache) == {"here"}
