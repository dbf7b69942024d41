"""Prometheus' answers, from a server on this machine."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from coppice_api.modelrollout import TargetKey
from coppice_operator.kube import Kube, KubeError
from coppice_operator.rollout.credentials import Credentials, read_secret, tls_context
from coppice_operator.rollout.prometheus import KEPT_SECONDS, Prometheus, parse
from coppice_operator.rollout.question import Answer, Purpose, Query, QueryKey, Silence
from coppice_operator.secret import SecretError

KEY = QueryKey("check", TargetKey("web"), Purpose.CURRENT)


def vector(*values: str) -> bytes:
    result = [{"metric": {}, "value": [1.0, value]} for value in values]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "want"),
    [
        (200, vector("0.25"), Answer(0.25)),
        (200, b'{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}', Answer(2.0)),
        (200, vector(), Answer(None, "the query gives no series")),
        (200, vector("1", "2"), Answer(None, "the query gives 2 series, not one: aggregate them", Silence.REFUSED)),
        (200, vector("NaN"), Answer(None, "the query gives NaN")),
        (200, vector("+Inf"), Answer(None, "the query gives +Inf")),
        (
            200,
            b'{"status":"success","data":{"resultType":"matrix","result":[]}}',
            Answer(None, "the query gives a matrix, not one number", Silence.REFUSED),
        ),
        (400, b'{"status":"error","error":"parse error"}', Answer(None, "HTTP 400: parse error", Silence.REFUSED)),
        (422, b'{"status":"error","error":"too many"}', Answer(None, "HTTP 422: too many", Silence.REFUSED)),
        (503, b'{"status":"error","error":"timed out"}', Answer(None, "HTTP 503: timed out", Silence.ERROR)),
        (
            404,
            b"page not found",
            Answer(
                None,
                "HTTP 404 without JSON: is analysis.prometheus.address the base URL of a Prometheus?",
                Silence.ERROR,
            ),
        ),
        (
            401,
            b"Unauthorized",
            Answer(
                None,
                "HTTP 401 without JSON: it wants other credentials (analysis.prometheus.credentialsSecretName)",
                Silence.ERROR,
            ),
        ),
        (502, b"<html>", Answer(None, "HTTP 502 without JSON", Silence.ERROR)),
        (200, b"[]", Answer(None, "HTTP 200: not a Prometheus answer", Silence.ERROR)),
        (200, b'{"status":"success"}', Answer(None, "not a Prometheus answer", Silence.ERROR)),
        (200, b'{"status":"success","data":[]}', Answer(None, "not a Prometheus answer", Silence.ERROR)),
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


class Secrets(Kube):
    """A stand-in for the API server: the Secrets of one namespace."""

    def __init__(self, **secrets: dict[str, Any]) -> None:
        super().__init__()
        self.secrets, self.reads = secrets, 0

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        self.reads += 1
        name = path.removeprefix("/api/v1/namespaces/fleet/secrets/")
        if name not in self.secrets:
            raise KubeError(404, "no such Secret")
        return self.secrets[name]


def secret(address: str, **values: str) -> dict[str, Any]:
    """A Secret for an address; a double underscore in a key is a dot."""
    data = {key.replace("__", "."): base64.b64encode(text.encode()).decode() for key, text in values.items()}
    return {"metadata": {"name": "own", "annotations": {"coppice.dev/prometheus-address": address}}, "data": data}


async def ask(address: str, kube: Kube | None = None, *, promql: str = "up == 1", timeout_seconds: float = 5) -> Answer:
    query = Query(KEY, address, promql, ("fleet", "own") if kube else None, timeout_seconds)
    async with Prometheus(kube or Secrets()) as prometheus:
        return (await prometheus.ask([query]))[KEY]


async def served(handler: Any, *, timeout_seconds: float = 5) -> Answer:
    """Ask a server that answers with `handler`."""
    async with serving(handler) as address:
        return await ask(address, timeout_seconds=timeout_seconds)


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

    async with serving(handler) as address, Prometheus(Secrets()) as prometheus:
        keys = [QueryKey("check", TargetKey(name), Purpose.REST) for name in ("a", "b")]
        answers = await prometheus.ask([Query(key, address, "rest") for key in keys] + [Query(KEY, address, "own")])
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
    answer, malformed = await ask("http://127.0.0.1:9"), await ask("http://[::")
    assert answer.value is None and "cannot ask http://127.0.0.1:9" in (answer.error or "")
    assert malformed.value is None


async def test_an_endless_answer_is_cut_off() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * (2 << 20))

    assert "more than" in ((await served(handler)).error or "")


async def asked_with(values: dict[str, str]) -> list[str | None]:
    """Return the Authorization headers of two questions with one Secret."""
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(body=vector("3"), content_type="application/json")

    async with serving(handler) as address:
        kube = Secrets(own=secret(f"http://elsewhere:9090, {address}/", **values))
        queries = [
            Query(QueryKey("check", TargetKey(name), Purpose.CURRENT), address, name, ("fleet", "own")) for name in "ab"
        ]
        async with Prometheus(kube) as prometheus:
            assert set((await prometheus.ask(queries)).values()) == {Answer(3.0)}
    assert kube.reads == 1
    return seen


async def test_a_token_is_sent_as_a_bearer_token() -> None:
    assert await asked_with({"token": "canary-4711\n"}) == ["Bearer canary-4711"] * 2


async def test_a_username_and_password_are_sent_as_basic_authentication() -> None:
    want = "Basic " + base64.b64encode(b"coppice:canary-4711").decode()
    assert await asked_with({"username": "coppice", "password": "canary-4711\n"}) == [want] * 2


async def test_a_secret_is_read_again_when_it_is_refused_or_old() -> None:
    at = {"status": 401, "now": 0}

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=at["status"], body=vector("3"), content_type="application/json")

    async with serving(handler) as address:
        kube = Secrets(own=secret(address, token="canary"))
        async with Prometheus(kube, lambda: at["now"]) as prometheus:
            query = Query(KEY, address, "up", ("fleet", "own"))
            for status, now, want in ((401, 0, 1), (200, 1, 2), (200, 2, 2), (200, 3 + KEPT_SECONDS, 3)):
                at.update(status=status, now=int(now))
                await prometheus.ask([query])
                assert kube.reads == want


async def test_a_secret_goes_only_where_its_own_annotation_says() -> None:
    asked: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization"))
        return web.Response(body=vector("3"), content_type="application/json")

    async with serving(handler) as address:
        for other in ("", "http://prometheus:9090", f"{address}/else", address.replace("http", "https")):
            answer = await ask(address, Secrets(own=secret(other, token="canary")))
            assert f"annotate it with coppice.dev/prometheus-address: {address}" in (answer.error or "")
    assert asked == []


async def test_a_secret_that_is_missing_is_an_answer_and_nothing_is_asked_without_it() -> None:
    answer = await ask("http://127.0.0.1:9", Secrets())
    assert (
        answer.error == "analysis.prometheus.credentialsSecretName: there is no Secret own in the rollout's namespace"
    )


async def test_nobody_is_followed_elsewhere() -> None:
    reached: list[str] = []

    async def target(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response(body=vector("3"), content_type="application/json")

    async with serving(target) as other:

        async def handler(request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(other + "/api/v1/query")

        async with serving(handler) as address:
            answer = await ask(address, Secrets(own=secret(address, token="canary")))
    assert "HTTP 307" in (answer.error or "") and reached == []


async def test_a_server_that_says_the_credentials_again_does_not_get_them_into_a_message() -> None:
    async def handler(request: web.Request) -> web.Response:
        header = request.headers["Authorization"]
        return web.Response(status=403, body=json.dumps({"status": "error", "error": f"no {header}"}).encode())

    async with serving(handler) as address:
        for values in ({"token": "canary-4711"}, {"username": "me", "password": "canary-4711"}):
            answer = await ask(address, Secrets(own=secret(address, **values)))
            pair = base64.b64encode(b"me:canary-4711").decode()
            assert "***" in (answer.error or "") and "canary" not in (answer.error or "")
            assert pair not in (answer.error or "")


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ({"username": "a"}, "needs username and password"),
        ({"token": "a", "username": "b", "password": "c"}, "has a token and a username"),
        ({"tls__crt": "a"}, "needs tls.crt and tls.key"),
        ({"token": "a\r\nX-Other: b"}, "token has more than one line"),
    ],
)
def test_what_does_not_fit_together_is_said(values: dict[str, str], want: str) -> None:
    with pytest.raises(SecretError, match=want):
        read_secret(secret("http://a", **values), "http://a")


@pytest.mark.parametrize(
    ("credentials", "want"),
    [
        (Credentials(ca_certificate="nonsense"), "ca.crt is not a certificate"),
        (Credentials(certificate="nonsense", key="nonsense"), "tls.crt and tls.key are not"),
    ],
)
def test_certificates_that_are_none_are_said(credentials: Credentials, want: str) -> None:
    with pytest.raises(SecretError, match=want):
        tls_context(credentials, "own")


def test_credentials_do_not_show_themselves() -> None:
    assert "canary" not in repr(Credentials(token="canary", password="canary", key="canary", username="me"))
