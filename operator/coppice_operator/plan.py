"""What a pure `plan` returns: the whole desired status, the writes to make, when to look again.

`apply.py` carries a Plan out in this order: status (with the observed resourceVersion as a precondition, so
a stale plan writes nothing), then actions, then Events. Status goes first because a rollout must have
remembered what a target held before it touches that target.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from coppice_api.redaction import without_userinfo
from coppice_operator.delivery.change import Change

JsonObject = dict[str, Any]


class EventType(StrEnum):
    """core/v1 Event types."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True)
class CreateObject:
    """POST a child of ours; 409 means that it exists already, which is as good."""

    manifest: JsonObject


@dataclass(frozen=True)
class ApplyObject:
    """Server-side apply with field manager `coppice`: drift on our children, and the one field of a target."""

    manifest: JsonObject
    cluster: str | None = None
    """None: the operator's own."""


@dataclass(frozen=True)
class PatchObject:
    """JSON merge patch: of our own children (such as a Job's suspend), and of a rollout's own annotation."""

    api_version: str
    kind: str
    namespace: str
    name: str
    patch: JsonObject


@dataclass(frozen=True)
class JsonPatchObject:
    """RFC 6902 patch of a target: removing a list entry that server-side apply does not own."""

    api_version: str
    kind: str
    namespace: str
    name: str
    patch: tuple[JsonObject, ...]
    cluster: str | None = None
    """None: the operator's own."""


@dataclass(frozen=True)
class DeleteObject:
    """DELETE with background propagation and the uid as a precondition."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class PublishToGit:
    """Commit to the repository that the fleet's GitOps tool applies; done when an Outcome of the change is observed."""

    change: Change


Action = CreateObject | ApplyObject | PatchObject | JsonPatchObject | DeleteObject | PublishToGit


@dataclass(frozen=True)
class Event:
    """An Event on the object of the plan; repeated ones are aggregated by (reason, message)."""

    type: EventType
    reason: str
    message: str
    written: bool = True
    """False: for the log only. Every write costs the API server, and what the status says already needs no other."""


@dataclass(frozen=True)
class Plan:
    """The answer of one pass."""

    status: JsonObject | None = None
    """The whole desired status, camelCase; None leaves it alone. Not written when equal to the observed one."""
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = field(default=())
    requeue_after_seconds: float | None = None
    """When to look again although nothing happened; None waits for a watch event or the resync."""

    def __post_init__(self) -> None:
        """Take user names and passwords of URIs out of whatever is said; what is to be used keeps them."""
        object.__setattr__(self, "status", _without_userinfo(self.status))
        told = tuple(dataclasses.replace(item, message=without_userinfo(item.message)) for item in self.events)
        object.__setattr__(self, "events", told)


def _without_userinfo(node: Any, key: str = "") -> Any:
    if isinstance(node, dict):
        return {name: _without_userinfo(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [_without_userinfo(item) for item in node]
    return without_userinfo(node) if key == "message" and isinstance(node, str) else node
