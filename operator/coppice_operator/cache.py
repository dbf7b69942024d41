"""What the operator knows of the cluster: the watched objects, without what nobody here reads."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator

from coppice_api.constants import LABEL_PRUNEJOB
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
        self._children: dict[tuple[str, str, str], dict[str, JsonObject]] = defaultdict(dict)
        """By kind, namespace and label: looking through a namespace at every pass costs the square of what is in it."""
        self._listings: list[Listing] = []

    def put(self, kind: str, item: JsonObject) -> bool:
        """Take in an object and return whether it was news."""
        namespace, name = place_of(item)
        known = self._objects[kind][namespace].get(name)
        if known is not None and _same_life(known, item) and _version(item) <= _version(known):
            return False
        slim = {**_slim(item), "kind": kind}
        self._objects[kind][namespace][name] = slim
        if known is not None and _label(known) != _label(slim):
            self._disown(kind, known)
        if label := _label(slim):
            self._children[kind, namespace, label][name] = slim
        return True

    def remove(self, kind: str, item: JsonObject) -> None:
        """Take in that an object is gone; one that was made again under its name stays."""
        for listing in self._listings:
            listing.bury(kind, item)
        namespace, name = place_of(item)
        known = self._objects[kind][namespace].get(name)
        if known is not None and _same_life(known, item):
            del self._objects[kind][namespace][name]
            self._disown(kind, known)

    @contextlib.contextmanager
    def listing(self, kind: str, namespace: str | None) -> Iterator[Listing]:
        """Take in a list, page by page, while watches and writes go on; of all namespaces when none is named."""
        listing = Listing(self, kind, namespace)
        self._listings.append(listing)
        try:
            yield listing
        finally:
            self._listings.remove(listing)

    def get(self, kind: str, place: Place) -> JsonObject | None:
        """Return an object, None when it is not known."""
        return self._objects[kind][place[0]].get(place[1])

    def in_namespace(self, kind: str, namespace: str) -> list[JsonObject]:
        """Return the objects of one kind in a namespace."""
        return list(self._objects[kind][namespace].values())

    def labelled(self, kind: str, namespace: str, label: str) -> list[JsonObject]:
        """Return the objects of one kind in a namespace whose PruneJob label has a value."""
        return list(self._children.get((kind, namespace, label), {}).values())

    def all(self, kind: str) -> list[JsonObject]:
        """Return every object of one kind."""
        return [item for namespace in self._objects[kind].values() for item in namespace.values()]

    def count(self, kind: str) -> int:
        """Return how many objects of one kind there are."""
        return sum(map(len, self._objects[kind].values()))

    def _disown(self, kind: str, item: JsonObject) -> None:
        namespace, name = place_of(item)
        key = (kind, namespace, _label(item))
        siblings = self._children.get(key, {})
        siblings.pop(name, None)
        if not siblings:
            self._children.pop(key, None)


class Listing:
    """A list on its way into the cache, against which newer news stands.

    A list shows one moment, its resourceVersion. What a watch or a write of ours has said of a later one is not undone:
    not an object that is newer, nor one that was seen to go while the list was on its way.
    """

    def __init__(self, cache: Cache, kind: str, namespace: str | None) -> None:
        self._cache, self._kind, self._namespace = cache, kind, namespace
        self._moment = 0
        self._seen: set[Place] = set()
        self._buried: set[object] = set()

    def page(self, document: JsonObject) -> list[JsonObject]:
        """Take in a page and return what was news, as the cache holds it: the page itself can go."""
        self._moment = self._moment or _version(document)
        news = [self._cache.get(self._kind, place_of(item)) for item in document.get("items") or () if self._news(item)]
        return [item for item in news if item is not None]

    def missing(self) -> list[JsonObject]:
        """Take in that there is no more, and return what nobody had said was gone."""
        scope = self._cache.all(self._kind) if self._namespace is None else self._cache.in_namespace(
            self._kind, self._namespace
        )  # fmt: skip
        gone = [item for item in scope if place_of(item) not in self._seen and _version(item) <= self._moment]
        for item in gone:
            self._cache.remove(self._kind, item)
        return gone

    def bury(self, kind: str, item: JsonObject) -> None:
        """Remember that an object went while the list was on its way."""
        if kind == self._kind:
            self._buried.add(item["metadata"].get("uid"))

    def _news(self, item: JsonObject) -> bool:
        place = place_of(item)
        self._seen.add(place)
        known = self._cache.get(self._kind, place)
        if item["metadata"].get("uid") in self._buried or (known is not None and _version(known) > self._moment):
            return False
        return self._cache.put(self._kind, item)


def place_of(item: JsonObject) -> Place:
    """Return an object's namespace and name."""
    return str(item["metadata"].get("namespace", "")), str(item["metadata"]["name"])


def _slim(item: JsonObject) -> JsonObject:
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": metadata}


def _label(item: JsonObject) -> str:
    return str((item["metadata"].get("labels") or {}).get(LABEL_PRUNEJOB, ""))


def _same_life(one: JsonObject, other: JsonObject) -> bool:
    return bool(one["metadata"].get("uid") == other["metadata"].get("uid"))


def _version(item: JsonObject) -> int:
    # Comparable within a kind since Kubernetes 1.35; every server before that used etcd's revision too.
    text = str(item["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdigit() else 0
