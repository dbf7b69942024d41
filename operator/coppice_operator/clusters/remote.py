"""One other cluster: lists of what is watched there, and watches that begin again whatever ends them.

Kopf watches only the cluster that it works in. Here a watch goes on where the one before it ended; when that cannot be,
and every RELIST_SECONDS, its kind is listed again. After failures the waits double up to LAST_WAIT_SECONDS.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from coppice_operator.cache import Cache
from coppice_operator.clusters.faults import unreadable
from coppice_operator.kube import Kube, KubeError, collection_path
from coppice_operator.tasks import cancel

RELIST_SECONDS = 300.0
AGAIN_SECONDS = 1.0
"""Between a watch that ended at once and the next."""
FIRST_WAIT_SECONDS, LAST_WAIT_SECONDS = 1.0, 30.0
_JITTER = 0.2
_log = logging.getLogger(__name__)


class Patience:
    """How long to wait after each failure in a row: doubling, never all at the same time."""

    def __init__(self) -> None:
        self._next = FIRST_WAIT_SECONDS

    def wait_seconds(self) -> float:
        """Return how long to wait now."""
        wait, self._next = self._next, min(2 * self._next, LAST_WAIT_SECONDS)
        return wait * (1 + _JITTER * random.random())  # noqa: S311 - spreads retries

    def reset(self) -> None:
        """Begin anew after a success."""
        self._next = FIRST_WAIT_SECONDS


class Remote:
    """What one connection knows of its cluster.

    Args:
        kube: The connection.
        cache: Gets what is there.
        name: Of the Secret, for messages.
        namespace: Where to look.
        changed: Told when something there changed, or the state of the connection.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        name: str,
        namespace: str,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kube, self.cache = kube, cache
        self._name, self._namespace, self._changed, self._clock = name, namespace, changed, clock
        self._faults: dict[str, str | None] = {}
        self._again = asyncio.Event()

    def fault(self, kinds: frozenset[tuple[str, str]]) -> tuple[bool, str | None]:
        """Return whether all of these (apiVersion, kind) were tried, and what is wrong with the first that fails."""
        said = [self._faults.get(kind) for _, kind in sorted(kinds)]
        settled = all(kind in self._faults for _, kind in kinds)
        return settled, next((fault for fault in said if fault), None)

    def failed(self, fault: str) -> None:
        """Take in that a write showed a fault of the cluster: all of it is listed again before anything is done."""
        for kind in self._faults:
            self._say(kind, fault)
        again, self._again = self._again, asyncio.Event()
        again.set()

    async def follow(self, api_version: str, kind: str) -> None:
        """Keep one kind in the cache, for ever."""
        path, patience = collection_path(api_version, kind, self._namespace), Patience()
        while True:
            try:
                version = await self._list(path, kind)
                self._say(kind, None)
                patience.reset()
                await self._watch(path, kind, version)
            except KubeError as error:
                if error.status == 410:
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                self._say(kind, unreadable(error, self._name, kind))
                wait = patience.wait_seconds()
                _log.warning(
                    "cluster %s/%s: %s; again in %.1f s", self._namespace, self._name, error, wait,
                    extra={"reason": "ClusterUnreachable"},
                )  # fmt: skip
                await asyncio.sleep(wait)

    async def _list(self, path: str, kind: str) -> str:
        version = ""
        with self.cache.listing(kind, self._namespace) as listing:
            news = False
            async for page in self.kube.pages(path):
                version = version or str(page.get("metadata", {}).get("resourceVersion", ""))
                for item in page.get("items") or ():
                    item["metadata"].setdefault("namespace", self._namespace)
                news = bool(listing.page(page)) or news
            news = bool(listing.missing()) or news
        if news:
            self._changed()
        return version

    async def _watch(self, path: str, kind: str, version: str) -> None:
        """Watch until it is time to list again."""
        until, again = self._clock() + RELIST_SECONDS, self._again
        while self._clock() < until:
            began = self._clock()
            watching = asyncio.ensure_future(self._watch_once(path, kind, version))
            asked = asyncio.ensure_future(again.wait())
            try:
                await asyncio.wait((watching, asked), return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    return
                version = watching.result()
            except KubeError as error:
                if error.status in (0, 410) or error.status >= 500:
                    # The list says what is wrong, if it still is.
                    await asyncio.sleep(AGAIN_SECONDS)
                    return
                raise
            finally:
                await cancel((watching, asked))
            await asyncio.sleep(max(0.0, began + AGAIN_SECONDS - self._clock()))

    async def _watch_once(self, path: str, kind: str, version: str) -> str:
        async for event in self.kube.watch(path, version):
            item = event["object"]
            version = str(item["metadata"]["resourceVersion"])
            if event["type"] == "BOOKMARK":
                continue
            if event["type"] == "DELETED":
                self.cache.remove(kind, item)
            elif not self.cache.put(kind, item):
                continue
            self._changed()
        return version

    def _say(self, kind: str, fault: str | None) -> None:
        if self._faults.get(kind, "") != fault:
            self._faults[kind] = fault
            self._changed()
