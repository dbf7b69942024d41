"""Whatever a watch or a list is answered, Kopf's begin again, and none without a pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kopf._cogs.clients import api, errors, fetching, watching

from coppice_operator.unending import AGAIN_SECONDS, lists, persist, watches
from tests.virtual_time import in_virtual_time

EVENT = {"type": "ADDED", "object": {"metadata": {"name": "a"}}}
ECHO = {"type": "MODIFIED", "object": {"metadata": {"name": "a"}}}
BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
GONE = {"type": "ERROR", "object": {"code": 410}}


class Server:
    """Answers each request with the next of some answers: events or pages, then an error if there is one."""

    def __init__(self, *answers: tuple[list[Any], Exception | None]) -> None:
        self._answers, self.asked = list(answers), 0

    async def __call__(self, **_: Any) -> AsyncIterator[Any]:
        self.asked += 1
        items, error = self._answers.pop(0)
        for item in items:
            yield item
        if error is not None:
            raise error


def nothing_known(_resource: Any, _event_type: str | None, item: Any) -> bool:
    assert item["metadata"]["name"]
    return False


async def all_of(stream: AsyncIterator[Any]) -> tuple[list[Any], float]:
    clock = asyncio.get_running_loop().time
    began = clock()
    return [item async for item in stream], clock() - began


@pytest.mark.parametrize(
    "error",
    [
        errors.APINotFoundError(status=404, headers={}),
        errors.APIClientError(status=410, headers={}),
        watching.WatchingError("code 500"),
        ValueError("no JSON"),
    ],
    ids=repr,
)
def test_a_watch_that_fails_ends_as_one_whose_history_is_gone(error: Exception) -> None:
    events, seconds = in_virtual_time(all_of(watches(Server(([EVENT], error)), nothing_known)()))
    assert events == [EVENT, GONE]
    assert seconds >= AGAIN_SECONDS


@pytest.mark.parametrize("odd", [{"type": "ERROR", "object": {"code": 500}}, {"type": "ADDED"}, {}, "text"], ids=str)
def test_an_event_that_is_none_ends_the_watch_likewise(odd: Any) -> None:
    events, seconds = in_virtual_time(all_of(watches(Server(([EVENT, odd, EVENT], None)), nothing_known)()))
    assert events == [EVENT, GONE]
    assert seconds >= AGAIN_SECONDS


def test_an_answer_of_nothing_takes_a_while_and_one_with_events_does_not() -> None:
    assert in_virtual_time(all_of(watches(Server(([], None)), nothing_known)())) == (
        [GONE],
        pytest.approx(AGAIN_SECONDS),
    )
    assert in_virtual_time(all_of(watches(Server(([EVENT], None)), nothing_known)())) == ([EVENT], pytest.approx(0))


def test_a_list_that_fails_is_begun_again_less_and_less_often() -> None:
    gone = errors.APINotFoundError(status=404, headers={})
    one, two = ([EVENT["object"]], "5"), ([EVENT["object"], EVENT["object"]], "5")
    server = Server(([], gone), ([one], gone), ([], ValueError("no JSON")), ([one, two], None))
    pages, seconds = in_virtual_time(all_of(lists(server, nothing_known)()))
    assert pages == [one, one, two]
    assert seconds == pytest.approx(1 + 2 + 4)
    assert server.asked == 4


def test_what_is_known_goes_no_further_and_is_heard_all_the_same() -> None:
    heard = []

    def known(resource: Any, event_type: str | None, _item: Any) -> bool:
        heard.append((resource, event_type))
        return event_type in (None, "MODIFIED")

    # With nothing left to say a watch has not been silent: it is not begun again with a list.
    events, seconds = in_virtual_time(all_of(watches(Server(([ECHO, ECHO], None)), known)(resource="jobs")))
    assert (events, seconds) == ([], pytest.approx(0))
    # Kopf goes on from a bookmark's version, and it is of no object.
    events, _ = in_virtual_time(all_of(watches(Server(([ECHO, EVENT, BOOKMARK], None)), known)(resource="jobs")))
    assert events == [EVENT, BOOKMARK]
    pages, _ = in_virtual_time(all_of(lists(Server(([([ECHO["object"]], "7")], None)), known)(resource="pods")))
    assert pages == [([], "7")]
    assert heard == [("jobs", "MODIFIED")] * 3 + [("jobs", "ADDED"), ("pods", None)]


def test_it_is_kopf_whose_watches_persist(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((watching, "watch_objs"), (fetching, "fetch_objs"), (api, "json")):
        monkeypatch.setattr(module, name, getattr(module, name))
    before = getattr(watching.watch_objs, "__wrapped__", watching.watch_objs)
    persist(nothing_known)
    persist(nothing_known)
    assert watching.watch_objs.__wrapped__ is before
    # What Kopf calls is what was wrapped.
    for caller, name in (
        (watching.continuous_watch, "watch_objs"), (watching.continuous_watch, "fetch_objs"), (api.stream, "json"),
    ):  # fmt: skip
        assert name in caller.__code__.co_names
