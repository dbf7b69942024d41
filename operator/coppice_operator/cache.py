"""What the operator knows of the cluster: the watched objects, without what nobody here reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from coppice_operator.plan import JsonObject

Place = tuple[str, str]
"""(namespace, name)."""


class Cache:
    """Objects by kind, namespace and name.

    A write's own answer goes in as an event does; older versions are ignored, so a watch that lags behind a write never
    shows the past.
    """

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, dict[str, JsonObject]]] = defaultdict(lambda: defaultdict(dict))

    def put(self, kind: str, item: JsonObject) -> bool:
        """Take in an object and return whether it was news."""
        namespace, name = place_of(item)
        known = self._objects[kind][namespace].get(name)
        if known is not None and _same_life(known, item) and _version(item) <= _version(known):
            return False
        self._objects[kind][namespace][name] = {**_slim(item), "kind": kind}
        return True

    def remove(self, kind: str, item: JsonObject) -> None:
        """Take in that an object is gone; one that was made again under its name stays."""
        namespace, name = place_of(item)
        known = self._objects[kind][namespace].get(name)
        if known is not None and _same_life(known, item):
            del self._objects[kind][namespace][name]

    def replace(self, kind: str, items: Iterable[JsonObject]) -> None:
        """Take in a whole list."""
        self._objects[kind].clear()
        for item in items:
            self.put(kind, item)

    def get(self, kind: str, place: Place) -> JsonObject | None:
        """Return an object, None when it is not known."""
        return self._objects[kind][place[0]].get(place[1])

    def in_namespace(self, kind: str, namespace: str) -> list[JsonObject]:
        """Return the objects of one kind in a namespace."""
        return list(self._objects[kind][namespace].values())

    def all(self, kind: str) -> list[JsonObject]:
        """Return every object of one kind."""
        return [item for namespace in self._objects[kind].values() for item in namespace.values()]


def place_of(item: JsonObject) -> Place:
    """Return an object's namespace and name."""
    return str(item["metadata"].get("namespace", "")), str(item["metadata"]["name"])


def _slim(item: JsonObject) -> JsonObject:
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": metadata}


def _same_life(one: JsonObject, other: JsonObject) -> bool:
    return bool(one["metadata"].get("uid") == other["metadata"].get("uid"))


def _version(item: JsonObject) -> int:
    # Comparable within a kind since Kubernetes 1.35; every server before that used etcd's revision too.
    text = str(item["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdigit() else 0
