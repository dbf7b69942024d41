"""Asking Prometheus: the only module of the rollout with I/O. Whatever comes back becomes an Answer."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any

import aiohttp

from coppice_operator.rollout.question import Answer, Query, QueryKey

PATH = "/api/v1/query"
MAX_ANSWER_BYTES = 1 << 20
"""One number fits many times over; a query that selects a whole fleet's series does not."""


async def ask_all(session: aiohttp.ClientSession, queries: Sequence[Query]) -> dict[QueryKey, Answer]:
    """Ask what a pass wants to know, and what several keys ask alike only once: their answers must not differ."""
    texts = {(query.address, query.promql): query for query in queries}
    answers = await asyncio.gather(*(ask(session, query) for query in texts.values()))
    told = dict(zip(texts, answers, strict=True))
    return {query.key: told[query.address, query.promql] for query in queries}


async def ask(session: aiohttp.ClientSession, query: Query, timeout_seconds: float = 10) -> Answer:
    """Ask one instant query.

    Never raises but for cancellation: an unreachable server, an error, no series, several series and NaN are
    all answers without a number.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    try:
        async with session.post(query.address + PATH, data={"query": query.promql}, timeout=timeout) as response:
            body = await response.content.read(MAX_ANSWER_BYTES + 1)
            while len(body) <= MAX_ANSWER_BYTES and (chunk := await response.content.read(MAX_ANSWER_BYTES)):
                body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                return Answer(None, f"the answer has more than {MAX_ANSWER_BYTES} bytes")
            return parse(response.status, body)
    except asyncio.CancelledError:
        raise
    except TimeoutError:
        return Answer(None, f"no answer within {timeout_seconds:g} s from {query.address}")
    except Exception as error:
        return Answer(None, f"cannot ask {query.address}: {type(error).__name__}: {error}"[:500])


def parse(status: int, body: bytes) -> Answer:
    """Turn an HTTP answer into a number or the reason why there is none."""
    try:
        document: Any = json.loads(body)
    except ValueError:
        return Answer(None, f"HTTP {status} without JSON")
    if not isinstance(document, dict) or document.get("status") != "success":
        error = document.get("error") if isinstance(document, dict) else None
        return Answer(None, f"HTTP {status}: {error or 'not a Prometheus answer'}"[:500])
    try:
        return _number(document["data"]["resultType"], document["data"]["result"])
    except (KeyError, TypeError, ValueError, IndexError):
        return Answer(None, "not a Prometheus answer")


def _number(kind: str, result: Any) -> Answer:
    if kind == "scalar":
        text = result[1]
    elif kind != "vector":
        return Answer(None, f"the query gives a {kind}, not one number")
    elif len(result) == 0:
        return Answer(None, "the query gives no series")
    elif len(result) > 1:
        return Answer(None, f"the query gives {len(result)} series, not one: aggregate them")
    else:
        text = result[0]["value"][1]
    value = float(text)
    return Answer(value) if math.isfinite(value) else Answer(None, f"the query gives {text}")
