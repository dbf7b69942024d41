"""What a rollout remembers beside its status, in an annotation of its own object.

A status may be wiped: by a hand, by a tool that replaces the object. Then the targets that have the new model would be
taken for targets that always had it, and there would be no way back. So what they held is written here too, a wave at a
time, before any of the wave is touched; and how the rollout ended, so that none ever begins a second time. It is
compressed JSON: the API server takes 256 KiB of annotations, and a thousand values are alike.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from coppice_api.constants import ANNOTATION_RECORD
from coppice_api.modelrollout import TargetKey
from coppice_operator.plan import JsonObject

MAX_ANNOTATIONS_BYTES = 256 * 1024
"""What the API server takes of all annotations of an object, keys and values."""
MAX_DECODED_BYTES = 16 * 1024 * 1024
_SPARE_BYTES = 4096
"""Left for what people and tools add later."""


@dataclass(frozen=True)
class Record:
    """What is remembered."""

    held: Mapping[TargetKey, str | None] = field(default_factory=dict)
    """What the field of each target held before; None: it did not exist."""
    complete: bool = True
    """False: there was no room for all of them."""
    wave: int = 0
    """The wave that was under way."""
    failure_reason: str | None = None
    failure_message: str | None = None
    state: str | None = None
    """The reason of Ready of a rollout that has ended."""
    message: str | None = None
    """Its message."""


def read(metadata: JsonObject) -> Record | None:
    """Return the record that an object carries of itself; None where there is none, or none that can be read."""
    text = (metadata.get("annotations") or {}).get(ANNOTATION_RECORD)
    if not isinstance(text, str):
        return None
    try:
        unpacking = zlib.decompressobj()
        document = json.loads(unpacking.decompress(base64.b64decode(text, validate=True), MAX_DECODED_BYTES))
        # A copy of the object under another name, or made again, has its own life.
        if document["uid"] != _uid(metadata):
            return None
        held = {}
        for kind, name, cluster, value in document["held"]:
            key = TargetKey.read({"kind": kind, "name": name, "cluster": cluster})
            if key is not None and (value is None or isinstance(value, str)):
                held[key] = value
        return Record(
            held=held,
            complete=bool(document["complete"]),
            wave=int(document["wave"]),
            **{name: None if document[name] is None else str(document[name]) for name in _WORDS},
        )
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error, RecursionError, OverflowError):
        return None


def fitted(record: Record, metadata: JsonObject) -> Record | None:
    """Return as much of a record as the object's other annotations leave room for; None where that is nothing."""
    others = {key: text for key, text in (metadata.get("annotations") or {}).items() if key != ANNOTATION_RECORD}
    taken = sum(len(key.encode()) + len(str(text).encode()) for key, text in others.items())
    room = MAX_ANNOTATIONS_BYTES - _SPARE_BYTES - len(ANNOTATION_RECORD) - taken
    while (size := len(written(record, metadata))) > room:
        if not record.held:
            return None
        kept = min(len(record.held) - 1, len(record.held) * max(room, 0) // size)
        record = replace(record, held=dict(sorted(record.held.items())[:kept]), complete=False)
    return record


def written(record: Record, metadata: JsonObject) -> str:
    """Return the annotation's text."""
    document = {
        "uid": _uid(metadata),
        "held": [[str(key.kind), key.name, key.cluster, value] for key, value in sorted(record.held.items())],
        "complete": record.complete,
        "wave": record.wave,
        **{name: getattr(record, name) for name in _WORDS},
    }
    return base64.b64encode(zlib.compress(json.dumps(document, separators=(",", ":")).encode())).decode()


_WORDS = ("failure_reason", "failure_message", "state", "message")


def _uid(metadata: JsonObject) -> str:
    return str(metadata.get("uid", ""))
