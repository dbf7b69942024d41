"""Asking Prometheus: the only module of the rollout with I/O. Whatever comes back becomes an Answer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from coppice_operator.kube import Kube
from coppice_operator.rollout.credentials import Credentials, read_secret, tls_context
from coppice_operator.rollout.question import Answer, Query, QueryKey, Silence
from coppice_operator.secret import SecretError, fetch

PATH = "/api/v1/query"
MAX_ANSWER_BYTES = 1 << 20
"""One number fits many times over; a query that selects a whole fleet's series does not."""
KEPT_SECONDS = 60.0
"""For how long a Secret that was read is used; one that is refused is read again at once."""
REFUSES_QUERY = frozenset({400, 422})
"""Prometheus: the query cannot be parsed, or not be executed."""
HINTS = {
    401: ": it wants other credentials (analysis.prometheus.credentialsSecretName)",
    403: ": the credentials (analysis.prometheus.credentialsSecretName) do not allow the question",
    404: ": is analysis.prometheus.address the base URL of a Prometheus?",
    405: ": is analysis.prometheus.address the base URL of a Prometheus?",
}
REFUSES_CREDENTIALS = frozenset({401, 403})
NOBODY = Credentials()


@dataclass(frozen=True)
class _Access:
    credentials: Credentials
    tls: ssl.SSLContext | bool
    until: float


class Prometheus:
    """Asks, with credentials that were read a short while ago. Use with `async with`.

    Args:
        kube: For the Secrets.
        clock: Seconds, monotonic.
    """

    def __init__(self, kube: Kube, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._clock = kube, clock
        self._accesses: dict[tuple[tuple[str, str] | None, str], _Access] = {}

    async def __aenter__(self) -> Prometheus:
        """Open a session."""
        self._session = aiohttp.ClientSession(trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it, and forget every credential."""
        self._accesses.clear()
        await self._session.close()

    async def ask(self, queries: Sequence[Query]) -> dict[QueryKey, Answer]:
        """Ask what a pass wants to know, and what several keys ask alike only once: their answers must not differ.

        Never raises but for cancellation: an unreachable server, a Secret that cannot be used, an error, no series,
        several series and NaN are all answers without a number.
        """
        accesses = {
            source: await self._access(*source) for source in {(query.secret, query.address) for query in queries}
        }
        texts = {(query.address, query.promql): query for query in queries}
        answers = await asyncio.gather(
            *(self._ask(query, accesses[query.secret, query.address]) for query in texts.values())
        )
        told = dict(zip(texts, answers, strict=True))
        return {query.key: told[query.address, query.promql] for query in queries}

    async def _ask(self, query: Query, access: _Access | Answer) -> Answer:
        if isinstance(access, Answer):
            return access
        answer = await self._post(query, access)
        return dataclasses.replace(answer, error=access.credentials.redact(answer.error)) if answer.error else answer

    async def _post(self, query: Query, access: _Access) -> Answer:
        try:
            async with self._session.post(
                query.address + PATH,
                data={"query": query.promql, "timeout": f"{query.timeout_seconds:g}s"},
                headers=access.credentials.headers(),
                ssl=access.tls,
                # Whoever answers must not be able to send the operator, or a credential, elsewhere.
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=query.timeout_seconds),
            ) as response:
                if response.status in REFUSES_CREDENTIALS:
                    self._accesses.pop((query.secret, query.address), None)
                body = await response.content.read(MAX_ANSWER_BYTES + 1)
                while len(body) <= MAX_ANSWER_BYTES and (chunk := await response.content.read(MAX_ANSWER_BYTES)):
                    body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    return Answer(None, f"the answer has more than {MAX_ANSWER_BYTES} bytes", Silence.REFUSED)
                return parse(response.status, body)
        except asyncio.CancelledError:
            raise
        except TimeoutError:
            return Answer(None, f"no answer within {query.timeout_seconds:g} s from {query.address}", Silence.ERROR)
        except Exception as error:
            return Answer(None, f"cannot ask {query.address}: {type(error).__name__}: {error}"[:500], Silence.ERROR)

    async def _access(self, secret: tuple[str, str] | None, address: str) -> _Access | Answer:
        if secret is None:
            return _Access(NOBODY, True, math.inf)
        now = self._clock()
        self._accesses = {key: access for key, access in self._accesses.items() if access.until > now}
        if (secret, address) in self._accesses:
            return self._accesses[secret, address]
        try:
            found = await fetch(self._kube, *secret, "analysis.prometheus.credentialsSecretName")
            credentials = read_secret(found, address)
            access = _Access(credentials, tls_context(credentials, secret[1]), now + KEPT_SECONDS)
        except SecretError as error:
            return Answer(None, str(error)[:500], Silence.ERROR)
        self._accesses[secret, address] = access
        return access


def parse(status: int, body: bytes) -> Answer:
    """Turn an HTTP answer into a number or the reason why there is none."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return Answer(None, f"HTTP {status} without JSON{HINTS.get(status, '')}", Silence.ERROR)
    if not isinstance(document, dict) or document.get("status") != "success":
        error = document.get("error") if isinstance(document, dict) else None
        silence = Silence.REFUSED if error and status in REFUSES_QUERY else Silence.ERROR
        return Answer(
            None, f"HTTP {status}: {error or 'not a Prometheus answer'}{HINTS.get(status, '')}"[:500], silence
        )
    try:
        return _number(document["data"]["resultType"], document["data"]["result"])
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return Answer(None, "not a Prometheus answer", Silence.ERROR)


def _number(kind: str, result: Any) -> Answer:
    if kind == "scalar":
        text = result[1]
    elif kind != "vector":
        return Answer(None, f"the query gives a {kind}, not one number", Silence.REFUSED)
    elif len(result) == 0:
        return Answer(None, "the query gives no series")
    elif len(result) > 1:
        return Answer(None, f"the query gives {len(result)} series, not one: aggregate them", Silence.REFUSED)
    else:
        text = result[0]["value"][1]
    value = float(text)
    return Answer(value) if math.isfinite(value) else Answer(None, f"the query gives {text}")
