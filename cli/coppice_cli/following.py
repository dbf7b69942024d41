"""One object over time: what it is now, and again after each change, whatever becomes of the connection."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from coppice_cli.cluster import PRUNE_JOB, Cluster, ClusterError, Resource, collection, get, not_there
from coppice_cli.wording import JsonObject

_WATCH_SECONDS = 240.0
_PATIENCE_SECONDS = 60.0
"""How long a cluster that answered before may be silent: an API server restarts in less."""
_RETRY_SECONDS = 1.0


class GoneError(ClusterError):
    """The object was deleted while it was followed."""


def versions(
    cluster: Cluster, name: str, *, resource: Resource = PRUNE_JOB, deadline_seconds: float | None = None
) -> Iterator[JsonObject]:
    """Yield an object now and after each change; stop at the deadline, if there is one.

    Args:
        cluster: Where it is.
        name: Its name.
        resource: Its kind.
        deadline_seconds: How long, from now.

    Raises:
        GoneError: If it is deleted.
        ClusterError: If it is not there at first, or the cluster stays silent.
    """
    end = None if deadline_seconds is None else time.monotonic() + deadline_seconds
    item = get(cluster, resource, name)
    uid, silent_since = item["metadata"]["uid"], None
    while True:
        yield item
        try:
            yield from _watched(cluster, resource, item, _left(end))
            if _left(end) <= 0:
                return
            item, silent_since = get(cluster, resource, name), None
            if item["metadata"]["uid"] != uid:
                raise GoneError(f"{resource.kind} {name} was deleted, and another one made under its name", 404)
        except ClusterError as error:
            if error.status == 404:
                raise GoneError(f"{resource.kind} {name} was deleted", 404) from error
            silent_since = silent_since or time.monotonic()
            if error.status not in (0, 410, 429) and error.status < 500:
                raise
            if time.monotonic() - silent_since > _PATIENCE_SECONDS:
                raise
            time.sleep(min(_RETRY_SECONDS, max(_left(end), 0.0)))
            if _left(end) <= 0:
                return


def _lines(cluster: Cluster, resource: Resource, read_seconds: float, query: dict[str, str]) -> Iterator[bytes]:
    try:
        yield from cluster.lines(collection(resource.plural, cluster.namespace), read_seconds=read_seconds, **query)
    except ClusterError as error:
        raise not_there(error, str(error)) from error


def _left(end: float | None) -> float:
    return _WATCH_SECONDS if end is None else end - time.monotonic()


def _watched(cluster: Cluster, resource: Resource, item: JsonObject, seconds: float) -> Iterator[JsonObject]:
    """Yield every change of an object until the watch ends; it ends by itself after a while."""
    if seconds <= 0:
        return
    metadata = item["metadata"]
    limit = max(1, round(min(seconds, _WATCH_SECONDS)))
    query = {
        "watch": "true",
        "fieldSelector": f"metadata.name={metadata['name']}",
        "resourceVersion": metadata["resourceVersion"],
        "timeoutSeconds": str(limit),
    }
    for text in _lines(cluster, resource, limit + 10.0, query):
        event = json.loads(text)
        if event["type"] == "ERROR":
            # Most often 410: the version is too old to go on from. The caller reads the object again.
            return
        if event["type"] == "DELETED":
            raise GoneError(f"{resource.kind} {metadata['name']} was deleted", 404)
        yield event["object"]
