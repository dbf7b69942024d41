"""Lists what is watched: all of it before anything is decided, and again to find what the watches missed.

Kopf lists again when a watch cannot go on where it ended (410 Gone), but tells handlers only of what is there: an
object that was deleted meanwhile would stay in the cache for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coppice_api.constants import LABEL_PRUNEJOB
from coppice_operator.cache import Cache, Listing, Place
from coppice_operator.heap import give_back
from coppice_operator.kube import Kube, KubeError, collection_path
from coppice_operator.metrics import OperatorMetrics
from coppice_operator.plan import JsonObject

RELIST_SECONDS = 300.0
FIRST_RELIST_SECONDS = 30.0
"""Sooner, for what was deleted between our list and Kopf's."""
GATHER_SECONDS = 1.0
"""Between the last sign of a watch that began again and the list that follows it: there is one for each object."""
_RETRY_SECONDS, _LAST_RETRY_SECONDS = 2.0, 60.0
ABSENT = frozenset({403, 404})
"""How the API server refuses a kind that is not there, or not for us."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watched:
    """One kind the operator watches."""

    kind: str
    api_version: str
    plural: str
    labelled: bool = False
    """Only objects that carry our label."""
    optional: bool = False
    """Another project's: where there is no such kind, or no right to it, it is done without."""

    @property
    def selector(self) -> tuple[str, str, str]:
        """(group, version, plural)."""
        group, _, version = self.api_version.rpartition("/")
        return group, version, self.plural


class Lister:
    """Fills the cache, and keeps it true where watches fail.

    Args:
        kube: Where from.
        cache: Where to.
        watched: What; children before parents, so that a PruneJob is never looked at before its Jobs are known.
        namespaces: Where; everywhere when empty.
        saw: Told of what a later list found changed.
        metrics: Counts what the watches missed.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        watched: Sequence[Watched],
        namespaces: Sequence[str],
        saw: Callable[[str, JsonObject], None],
        metrics: OperatorMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._listed_at = clock, 0.0
        self._kube, self._cache, self._saw, self._metrics = kube, cache, saw, metrics
        self._watched, self._scopes = watched, namespaces or (None,)
        self._wanted = asyncio.Event()
        self._known: set[object] = set()

    @property
    def watched(self) -> Sequence[Watched]:
        """What there is to watch, once it was listed."""
        return self._watched

    async def prime(self, stop: asyncio.Event) -> None:
        """List everything, however often it takes, or until told to stop."""
        self._listed_at = self._clock()
        for watched in tuple(self._watched):
            for namespace in self._scopes:
                while not stop.is_set():
                    try:
                        with self._cache.listing(watched.kind, namespace) as listing:
                            await self._take_in(listing, watched, namespace)
                        break
                    except KubeError as error:
                        if watched.optional and error.status in ABSENT:
                            self._do_without(watched, error)
                            break
                        _log.warning("cannot list %s: %s; again in %.0f s", watched.kind, error, _RETRY_SECONDS)
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(_RETRY_SECONDS):
                                await stop.wait()

    def _do_without(self, watched: Watched, error: KubeError) -> None:
        if watched in self._watched:
            _log.info("%s is not watched: %s", watched.kind, error.said)
        self._watched = tuple(item for item in self._watched if item != watched)

    async def run(self) -> None:
        """List again for ever, now and then and whenever it is asked for."""
        wait, retry = FIRST_RELIST_SECONDS, _RETRY_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wanted.wait()
            while self._wanted.is_set():
                self._wanted.clear()
                await asyncio.sleep(GATHER_SECONDS)
            try:
                await self._relist()
                give_back()
                wait, retry = RELIST_SECONDS, _RETRY_SECONDS
            except KubeError as error:
                # A kind that is gone or forbidden stays so for long, and the others are listed with it each time.
                wait, retry = retry, min(2 * retry, _LAST_RETRY_SECONDS)
                _log.warning("cannot list again: %s; again in %.0f s", error, wait)

    def freshen(self) -> None:
        """Have everything listed again, unless that was a moment ago."""
        if self._clock() - self._listed_at > FIRST_RELIST_SECONDS:
            self._wanted.set()

    def heard(self, event_type: str | None, item: JsonObject) -> None:
        """Take in what a watch says; one that lists (no type) what it had told of before has begun again."""
        uid = item["metadata"].get("uid")
        if event_type == "DELETED":
            self._known.discard(uid)
            return
        if event_type is None and uid in self._known:
            self._wanted.set()
        self._known.add(uid)

    async def _relist(self) -> None:
        self._listed_at = self._clock()
        with contextlib.ExitStack() as stack:
            lists: list[tuple[str, Listing]] = []
            news: list[tuple[str, Place]] = []
            for watched in self._watched:
                for namespace in self._scopes:
                    listing = stack.enter_context(self._cache.listing(watched.kind, namespace))
                    try:
                        news += [(watched.kind, place) for place in await self._take_in(listing, watched, namespace)]
                    except KubeError as error:
                        if watched.optional and error.status in ABSENT:
                            # Somebody replaces it; its watch begins again by itself.
                            continue
                        raise
                    lists.append((watched.kind, listing))
            missed = [(kind, item) for kind, place in news if (item := self._cache.get(kind, place)) is not None]
            # Parents go before their children and all at once, or a PruneJob that is gone would get a new Job.
            for kind, listing in reversed(lists):
                gone = listing.missing()
                self._known -= {item["metadata"].get("uid") for item in gone}
                missed += [(kind, item) for item in gone]
        for kind, count in Counter(kind for kind, _ in missed).items():
            self._metrics.missed(kind, count)
            _log.info("the watch of %s missed %d changes", kind, count, extra={"reason": "WatchMissed"})
        for kind, item in missed:
            self._saw(kind, item)

    async def _take_in(self, listing: Listing, watched: Watched, namespace: str | None) -> list[Place]:
        """Return where there was news."""
        path = collection_path(watched.api_version, watched.kind, namespace)
        query = {"labelSelector": LABEL_PRUNEJOB} if watched.labelled else {}
        return [place async for page in self._kube.pages(path, **query) for place in listing.page(page)]
