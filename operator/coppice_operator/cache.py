"""What the operator knows of the cluster: the watched objects, without what nobody here reads.

PruneJobs, Jobs and pods come by the thousand and are looked at one at a time, so they are kept as text: a tenth of the
memory of the objects that it reads as, and nothing for the garbage collector to go through.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from coppice_api.constants import LABEL_PRUNEJOB
from coppice_operator import jsontext
from coppice_operator.plan import JsonObject

Place = tuple[str, str]
"""(namespace, name)."""

_AS_TEXT = {"PruneJob", "Job", "Pod"}


@dataclass(frozen=True, slots=True)
class _Held:
    """An object, and what is asked of it without reading it."""

    uid: object
    version: int
    label: str
    phase: str
    """Of a pod."""
    body: JsonObject | bytes

    def read(self) -> JsonObject:
        return dict(jsontext.loads(self.body)) if isinstance(self.body, bytes) else self.body


class Cache:
    """Objects by kind, namespace and name.

    A write's own answer goes in as an event does; older versions are ignored, so a watch that lags behind a write never
    shows the past.
    """

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, dict[str, _Held]]] = defaultdict(lambda: defaultdict(dict))
        self._children: dict[tuple[str, str, str], dict[str, _Held]] = defaultdict(dict)
        """By kind, namespace and label: looking through a namespace at every pass costs the square of what is in it."""
        self._listings: list[Listing] = []

    def put(self, kind: str, item: JsonObject) -> bool:
        """Take in an object and return whether it was news."""
        if self.has(kind, item):
            return False
        namespace, name = place_of(item)
        known = self._objects[kind][namespace].get(name)
        held = _held(kind, item)
        self._objects[kind][namespace][name] = held
        if known is not None and known.label != held.label:
            self._disown(kind, namespace, name, known.label)
        if held.label:
            self._children[kind, namespace, held.label][name] = held
        return True

    def has(self, kind: str, item: JsonObject) -> bool:
        """Return whether an object is known as it is, or a later version of it."""
        namespace, name = place_of(item)
        known = self._objects[kind][namespace].get(name)
        return known is not None and known.uid == item["metadata"].get("uid") and version_of(item) <= known.version

    def remove(self, kind: str, item: JsonObject) -> None:
        """Take in that an object is gone; one that was made again under its name stays."""
        for listing in self._listings:
            listing.bury(kind, item)
        namespace, name = place_of(item)
        known = self._objects[kind][namespace].get(name)
        if known is not None and known.uid == item["metadata"].get("uid"):
            del self._objects[kind][namespace][name]
            self._disown(kind, namespace, name, known.label)

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
        held = self._objects[kind][place[0]].get(place[1])
        return None if held is None else held.read()

    def version(self, kind: str, place: Place) -> int:
        """Return which version of an object is known, 0 where it is not."""
        held = self._objects[kind][place[0]].get(place[1])
        return 0 if held is None else held.version

    def places(self, kind: str, namespace: str | None = None) -> list[Place]:
        """Return which objects of one kind there are, of all namespaces when none is named."""
        scopes = list(self._objects[kind]) if namespace is None else [namespace]
        return [(scope, name) for scope in scopes for name in self._objects[kind][scope]]

    def in_namespace(self, kind: str, namespace: str) -> Mapping[str, JsonObject]:
        """Return the objects of one kind in a namespace by name, each read when it is looked at."""
        return _Reading(self._objects[kind][namespace])

    def labelled(self, kind: str, namespace: str, label: str) -> list[JsonObject]:
        """Return the objects of one kind in a namespace whose PruneJob label has a value."""
        return [held.read() for held in self._children.get((kind, namespace, label), {}).values()]

    def all(self, kind: str, *, phase: str | None = None) -> Iterator[JsonObject]:
        """Yield every object of one kind as it is now, or the pods in one phase; each is read when it is its turn."""
        found = [held for namespace in self._objects[kind].values() for held in namespace.values()]
        return (held.read() for held in found if phase in (None, held.phase))

    def count(self, kind: str) -> int:
        """Return how many objects of one kind there are."""
        return sum(map(len, self._objects[kind].values()))

    def _disown(self, kind: str, namespace: str, name: str, label: str) -> None:
        siblings = self._children.get((kind, namespace, label), {})
        siblings.pop(name, None)
        if not siblings:
            self._children.pop((kind, namespace, label), None)


class _Reading(Mapping[str, Any]):
    """Objects by name, as they are when they are looked at."""

    def __init__(self, held: Mapping[str, _Held]) -> None:
        self._held = held

    def __getitem__(self, name: str) -> JsonObject:
        return self._held[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


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

    def page(self, document: JsonObject) -> list[Place]:
        """Take in a page and return where there was news: the page itself can go."""
        self._moment = self._moment or version_of(document)
        return [place_of(item) for item in document.get("items") or () if self._news(item)]

    def missing(self) -> list[JsonObject]:
        """Take in that there is no more, and return what nobody had said was gone."""
        unseen = [
            place
            for place in self._cache.places(self._kind, self._namespace)
            if place not in self._seen and self._cache.version(self._kind, place) <= self._moment
        ]
        gone = [item for place in unseen if (item := self._cache.get(self._kind, place)) is not None]
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
        later = self._cache.version(self._kind, place) > self._moment
        if item["metadata"].get("uid") in self._buried or later:
            return False
        return self._cache.put(self._kind, item)


def place_of(item: JsonObject) -> Place:
    """Return an object's namespace and name."""
    return str(item["metadata"].get("namespace", "")), str(item["metadata"]["name"])


def version_of(item: JsonObject) -> int:
    """Return an object's or a list's resource version as a number, 0 for what is none."""
    # Comparable within a kind since Kubernetes 1.35; every server before that used etcd's revision too.
    text = str(item["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdigit() else 0


def _held(kind: str, item: JsonObject) -> _Held:
    metadata = item["metadata"]
    slim = _slim(kind, item)
    return _Held(
        metadata.get("uid"),
        version_of(item),
        str((metadata.get("labels") or {}).get(LABEL_PRUNEJOB, "")),
        str((item.get("status") or {}).get("phase", "")) if kind == "Pod" else "",
        # A copy, since orjson's own has room for four times as much.
        bytes(memoryview(jsontext.dumps(slim))) if kind in _AS_TEXT else slim,
    )


def _slim(kind: str, item: JsonObject) -> JsonObject:
    """Return an object without what nobody here reads."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    slim = {**item, "metadata": metadata, "kind": kind}
    if kind == "Job" and "spec" in item:
        # Three quarters of a Job. It cannot be edited, and what it was made from is in the PruneJob.
        slim["spec"] = {key: value for key, value in item["spec"].items() if key != "template"}
    return slim
