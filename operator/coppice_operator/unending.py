"""Kopf's watches, made to begin again whatever ends them, and to tell of what is not known yet.

Kopf begins a watch again after 410 Gone and after a broken connection, and ends the whole operator after anything else:
a kind that is gone for a while (404: its CRD is replaced), an ERROR event of another code, an answer that is no JSON.
An answer that ends at once it follows by the next request at once, without end. And it begins a task for each object
that it tells of, though half of what a watch says is the echo of a write of ours, and all of the first list is what we
have listed before: that was two fifths of this process' CPU time, and most of a restart's memory. There is no setting
for this, so two of its functions are wrapped; the version of Kopf is pinned, and a test fails where they are called
otherwise.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import orjson
from kopf._cogs.clients import api, errors, fetching, watching

AGAIN_SECONDS = 2.0
"""Between a watch that ended badly, or with nothing, and the next."""
_LAST_SECONDS = 16.0
_ENDS = (errors.APIError, watching.WatchingError, ValueError, KeyError, TypeError)
"""What an answer can do to Kopf; broken connections and credentials it sees to itself."""
_GONE = {"type": "ERROR", "object": {"code": 410}}
"""Has Kopf list again and watch from there."""
_log = logging.getLogger(__name__)

Stream = Callable[..., AsyncIterator[Any]]
Known = Callable[[Any, str | None, Any], bool]
"""Told a resource, the type of an event (none in a list) and its object; says whether that is known already."""


def persist(known: Known) -> None:
    """Have every watch that begins from now on begin again, and leave out what is known."""
    watching.watch_objs = watches(_original(watching.watch_objs), known)
    fetching.fetch_objs = lists(_original(fetching.fetch_objs), known)
    # Every event is a line of JSON, and the standard library takes three times as long to read it.
    api.json = orjson  # type: ignore[attr-defined]


def watches(watch: Stream, known: Known) -> Stream:
    """Return a watch that says 410 Gone, after a while, where it would have failed or ends at once with nothing."""

    async def watching_on(**arguments: Any) -> AsyncIterator[Any]:
        clock = asyncio.get_running_loop().time
        began, heard = clock(), False
        try:
            async for event in watch(**arguments):
                heard = True
                if event["type"] == "ERROR":
                    _log.info("a watch of %s ended: %s", arguments.get("resource"), event["object"])
                    await _wait(began)
                    yield _GONE
                    return
                if not isinstance(event["object"], dict):
                    raise ValueError(f"no event: {event}")
                # A bookmark has no object, and Kopf goes on from its version.
                if event["type"] == "BOOKMARK" or not known(arguments.get("resource"), event["type"], event["object"]):
                    yield event
        except _ENDS as error:
            _log.warning("a watch of %s ended: %r", arguments.get("resource"), error, extra={"reason": "WatchEnded"})
            await asyncio.sleep(AGAIN_SECONDS)
            yield _GONE
            return
        if not heard and clock() < began + AGAIN_SECONDS:
            # A watch that has nothing to say takes minutes to end. Listed, what it does not say is seen all the same.
            await _wait(began)
            yield _GONE

    async def _wait(began: float) -> None:
        await asyncio.sleep(max(0.0, began + AGAIN_SECONDS - asyncio.get_running_loop().time()))

    watching_on.__wrapped__ = watch  # type: ignore[attr-defined]
    return watching_on


def lists(fetch: Stream, known: Known) -> Stream:
    """Return a list that begins anew, from its first page, as often as it fails."""

    async def listing_on(**arguments: Any) -> AsyncIterator[Any]:
        for wait_seconds in _waits():
            try:
                async for items, version in fetch(**arguments):
                    yield [item for item in items if not known(arguments.get("resource"), None, item)], version
                return
            except _ENDS as error:
                _log.warning(
                    "a list of %s failed: %r; again in %.0f s", arguments.get("resource"), error, wait_seconds,
                    extra={"reason": "WatchEnded"},
                )  # fmt: skip
                await asyncio.sleep(wait_seconds)

    listing_on.__wrapped__ = fetch  # type: ignore[attr-defined]
    return listing_on


def _original(function: Stream) -> Stream:
    return getattr(function, "__wrapped__", function)


def _waits() -> Iterator[float]:
    doubling = itertools.takewhile(lambda seconds: seconds < _LAST_SECONDS, (2.0**power for power in itertools.count()))
    return itertools.chain(doubling, itertools.repeat(_LAST_SECONDS))
