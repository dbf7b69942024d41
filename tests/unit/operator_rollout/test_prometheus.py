"""Prometheus' answers, from a server on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from coppice_operator.rollout.prometheus import ask, ask_all, parse
from coppice_operator.rollout.question import Answer, Purpose, Query, QueryKey

KEY = QueryKey("check", "web", Purpose.CURRENT)


def vector(*values: str) -> bytes:
    result = [{"metric": {}, "value": [1.0, value]} for value in values]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "want"),
    [
        (200, vector("0.25"), Answer(0.25)),
        (200, b'{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}', Answer(2.0)),
        (200, vector(), Answer(None, "the query gives no series")),
        (200, vector("1", "2"), Answer(None, "the query gives 2 series, not one: aggregate them")),
        (200, vector("NaN"), Answer(None, "the query gives NaN")),
        (200, vector("+Inf"), Answer(None, "the query gives +Inf")),
        (
            200,
            b'{"status":"success","data":{"resultType":"matrix","result":[]}}',
            Answer(None, "the query gives a matrix, not one number"),
        ),
        (400, b'{"status":"error","error":"parse error"}', Answer(None, "HTTP 400: parse error")),
        (502, b"<html>", Answer(None, "HTTP 502 without JSON")),
        (200, b"[]", Answer(None, "HTTP 200: not a Prometheus answer")),
        (200, b'{"status":"success"}', Answer(None, "not a Prometheus answer")),
        (200, b'{"status":"success","data":[]}', Answer(None, "not a Prometheus answer")),
    ],
)
def test_every_answer_is_a_number_or_a_reason(status: int, body: bytes, want: Answer) -> None:
    assert parse(status, body) == want


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["status", "data", "resultType", "result", "value", "error"]) | st.text(), inner
        )
    ),
)
DATA = st.fixed_dictionaries({"resultType": st.sampled_from(["vector", "scalar"]) | JSON, "result": JSON})


@given(JSON | st.fixed_dictionaries({"status": st.just("success"), "data": DATA | JSON}), st.integers(100, 599))
def test_no_answer_raises(document: Any, status: int) -> None:
    answer = parse(status, json.dumps(document).encode())
    assert (answer.value is None) != (answer.error is None)


@given(st.binary())
def test_no_bytes_raise(body: bytes) -> None:
    assert parse(200, body).value is None


@contextlib.asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[str]:
    """Serve on a free port with `handler`; yields the address."""
    application = web.Application()
    application.router.add_post("/api/v1/query", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def served(handler: Any, *, timeout_seconds: float = 5) -> Answer:
    """Ask a server that answers with `handler`."""
    async with serving(handler) as address, aiohttp.ClientSession() as session:
        return await ask(session, Query(KEY, address, "up == 1"), timeout_seconds)


async def test_the_query_is_posted_and_the_number_comes_back() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(str((await request.post())["query"]))
        return web.Response(body=vector("3"), content_type="application/json")

    assert await served(handler) == Answer(3.0)
    assert asked == ["up == 1"]


async def test_what_two_keys_ask_alike_is_asked_once() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(str((await request.post())["query"]))
        return web.Response(body=vector("3"), content_type="application/json")

    async with serving(handler) as address, aiohttp.ClientSession() as session:
        keys = [QueryKey("check", name, Purpose.REST) for name in ("a", "b")]
        answers = await ask_all(session, [Query(key, address, "rest") for key in keys] + [Query(KEY, address, "own")])
    assert answers == dict.fromkeys([*keys, KEY], Answer(3.0))
    assert sorted(asked) == ["own", "rest"]


async def test_a_server_that_does_not_answer_in_time_is_an_answer() -> None:
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    asking = asyncio.ensure_future(served(handler, timeout_seconds=0.05))
    await asyncio.wait([asking], timeout=0.2)
    release.set()
    answer = await asking
    assert answer.value is None and "no answer within 0.05 s" in (answer.error or "")


async def test_a_server_that_is_not_there_is_an_answer() -> None:
    async with aiohttp.ClientSession() as session:
        answer = await ask(session, Query(KEY, "http://127.0.0.1:9", "up"))
        malformed = await ask(session, Query(KEY, "http://[::", "up"))
    assert answer.value is None and "cannot ask http://127.0.0.1:9" in (answer.error or "")
    assert malformed.value is None


async def test_an_endless_answer_is_cut_off() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * (2 << 20))

    assert "more than" in ((await served(handler)).error or "")
