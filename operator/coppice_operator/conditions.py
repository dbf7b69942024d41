"""Conditions as kstatus reads them: a transition time that moves only when the status does.

Pure; both planners use it. A status lists exactly the conditions it was given, in that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from coppice_api.base import ConditionStatus
from coppice_operator.plan import JsonObject

MAX_MESSAGE_LENGTH = 32768
"""metav1.Condition allows no longer message."""


@dataclass(frozen=True)
class Condition:
    """A condition as a planner wants it; when it last changed is not its business."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    observed_generation: int = 0


def conditions(previous: list[JsonObject], wanted: Sequence[Condition], now: datetime) -> list[JsonObject]:
    """Return `wanted` as camelCase JSON, keeping lastTransitionTime where the status is the same as before.

    Args:
        previous: The conditions of the observed status; malformed entries count as absent.
        wanted: What holds now, at most one of each type.
        now: Transition time of what changed; aware.
    """
    before = {entry.get("type"): entry for entry in previous if isinstance(entry, dict)}
    return [_condition(before.get(condition.type), condition, now) for condition in wanted]


def timestamp(moment: datetime) -> str:
    """Return a metav1.Time: UTC, whole seconds (rounded down)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instant(stamp: str | None) -> datetime | None:
    """Return the moment a timestamp names, or None where there is none or it cannot be read."""
    if not stamp:
        return None
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def begun(moment: datetime, now: datetime, set_at: datetime | None) -> datetime:
    """Return when something began, as the clock counts now that somebody has set it.

    Args:
        moment: As it was written.
        now: The time.
        set_at: When the clock was set; what is older counts from then. None while nobody has.
    """
    return moment if set_at is None else max(set_at, min(moment, now))


def _condition(before: JsonObject | None, condition: Condition, now: datetime) -> JsonObject:
    kept = before.get("lastTransitionTime") if before and before.get("status") == condition.status else None
    return {
        "type": str(condition.type),
        "status": str(condition.status),
        "observedGeneration": condition.observed_generation,
        "lastTransitionTime": kept or timestamp(now),
        "reason": str(condition.reason),
        "message": condition.message[:MAX_MESSAGE_LENGTH],
    }
