"""Whatever a watch or a list is answered, Kopf's begin again, and none without a pause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kopf._cogs.clients import errors, fetching, watching

from coppice_operator.unending import AGAIN_SECONDS, lists, persist, watches
from tests.virtual_time import in_virtual_time

EVENT = {"type": "ADDED", "object": {"metadata": {"name": "a"}}}
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
    events, seconds = in_virtual_time(all_of(watches(Server(([EVENT], error)))()))
    assert events == [EVENT, GONE]
    assert seconds >= AGAIN_SECONDS


@pytest.mark.parametrize("odd", [{"type": "ERROR", "object": {"code": 500}}, {"type": "ADDED"}, {}, "text"], ids=str)
def test_an_event_that_is_none_ends_the_watch_likewise(odd: Any) -> None:
    events, seconds = in_virtual_time(all_of(watches(Server(([EVENT, odd, EVENT], None)))()))
    assert events == [EVENT, GONE]
    assert seconds >= AGAIN_SECONDS


def test_an_answer_of_nothing_takes_a_while_and_one_with_events_does_not() -> None:
    assert in_virtual_time(all_of(watches(Server(([], None)))())) == ([GONE], pytest.approx(AGAIN_SECONDS))
    assert in_virtual_time(all_of(watches(Server(([EVENT], None)))())) == ([EVENT], pytest.approx(0))


def test_a_list_that_fails_is_begun_again_less_and_less_often() -> None:
    gone = errors.APINotFoundError(status=404, headers={})
    server = Server(([], gone), (["page 1"], gone), ([], ValueError("no JSON")), (["page 1", "page 2"], None))
    pages, seconds = in_virtual_time(all_of(lists(server)()))
    assert pages == ["page 1", "page 1", "page 2"]
    assert seconds == pytest.approx(1 + 2 + 4)
    assert server.asked == 4


def test_it_is_kopf_whose_watches_persist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "watch_objs", watching.watch_objs)
    monkeypatch.setattr(fetching, "fetch_objs", fetching.fetch_objs)
    before = watching.watch_objs
    persist()
    once = watching.watch_objs
    persist()
    assert before is not once is watching.watch_objs
    # What Kopf calls is what was wrapped.
    for caller, name in ((watching.continuous_watch, "watch_objs"), (watching.continuous_watch, "fetch_objs")):
        assert name in caller.__code__.co_names
