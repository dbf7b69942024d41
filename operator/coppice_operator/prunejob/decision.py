"""What is decided about one hardware class, and how its entry in the status changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from coppice_api.constants import Reason
from coppice_api.prunejob import VariantState, VariantStatus
from coppice_operator.conditions import instant, timestamp
from coppice_operator.plan import Action, Event, EventType

MAX_MESSAGE_LENGTH = 1024
_MOST = 1e9
"""Of a variant's message, and of an Event's."""


@dataclass(frozen=True)
class Decision:
    """What to say and do about one hardware class."""

    status: VariantStatus
    reason: Reason
    """What the PruneJob's conditions say as long as this class decides them."""
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = field(default=())
    requeue_after_seconds: float | None = None


def said(before: VariantStatus, state: VariantState, reason: Reason, message: str) -> VariantStatus:
    """Return the entry with another state and sentence."""
    update = {"state": state, "reason": str(reason), "message": message[:MAX_MESSAGE_LENGTH]}
    return before.model_copy(update=update)


def news(before: VariantStatus, after: VariantStatus, kind: EventType) -> tuple[Event, ...]:
    """Return the Event for an entry that has another state or reason than before; other words alone are none."""
    if (before.state, before.reason) == (after.state, after.reason) or after.reason is None:
        return ()
    return (Event(kind, after.reason, f"{after.hardware}: {after.message}"),)


def not_backwards(before: VariantStatus) -> VariantState:
    """Return Running for what ran before: a pod that is replaced does not look like a new beginning."""
    return VariantState.RUNNING if before.state is VariantState.RUNNING else VariantState.PENDING


def reason_of(state: VariantState) -> Reason:
    """Return what is said of a run that meets no obstacle."""
    return Reason.RUNNING if state is VariantState.RUNNING else Reason.STARTING


def percent_text(ratio: float | None) -> str | None:
    """Return a ratio as a decimal string in percent, None for one that a status cannot hold."""
    return None if ratio is None else decimal_text(ratio * 100)


def decimal_text(value: float | None) -> str | None:
    """Return a number as a decimal string, None for infinity and what else a pod may have said.

    A status with one such figure would be refused whole, at every pass.
    """
    return None if value is None or not abs(value) < _MOST else f"{value:.2f}"


def moment_text(stamp: str | None) -> str | None:
    """Return a timestamp as the API server takes it, None for what is none."""
    moment = instant(stamp)
    try:
        return None if moment is None else timestamp(moment)
    except OverflowError:
        return None


def remaining_seconds(stamp: str | None, interval_seconds: float, now: datetime) -> float:
    """Return how much of an interval after a timestamp is left.

    A timestamp is rounded down, so a second is added. One in the future is of a clock that has been set back: nothing
    waits for that.
    """
    moment = instant(stamp)
    if moment is None or moment > now:
        return 0.0
    return max(0.0, interval_seconds + 1.0 - (now - moment).total_seconds())
