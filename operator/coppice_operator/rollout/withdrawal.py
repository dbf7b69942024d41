"""A person takes a rollout back: while it is under way, or after its end.

What a target had is still in the status of a rollout that has ended, so the ordinary way back works for it too. It
waits for a rollout that has begun with one of the same targets: two ways at once would undo each other.
"""

from __future__ import annotations

from coppice_api.constants import Reason
from coppice_operator.plan import EventType
from coppice_operator.rollout.claims import FINISHED, under_way
from coppice_operator.rollout.draft import RETRY_SECONDS, SOON_SECONDS, Draft, Verdict
from coppice_operator.rollout.rollback import TOUCHED

_ASKED = "spec.withdrawn is true"


def turns_round(draft: Draft) -> bool:
    """Return whether it is withdrawn and not yet on its way back."""
    held = draft.stored.state == Reason.HELD
    return draft.spec.withdrawn and draft.stored.state != Reason.ROLLED_BACK and (held or draft.failure_reason is None)


def withdraw(draft: Draft) -> Verdict:
    """Begin the way back, whatever onFailure says."""
    touched = [target.key for target in draft.targets if target.state in TOUCHED]
    taken = under_way(draft.observation.siblings, touched) if draft.stored.state in FINISHED else {}
    if taken:
        key, other = min(taken.items())
        return Verdict(
            Reason(draft.stored.state or ""),
            f"withdrawn, but ModelRollout {other} has {key}: waiting until it has ended",
            reconciling=True,
            requeue_after_seconds=RETRY_SECONDS,
        )
    # One that failed and was held keeps its own reason.
    draft.failure_reason = draft.failure_reason or str(Reason.WITHDRAWN)
    draft.failure_message = draft.failure_message or _ASKED
    draft.announce(EventType.NORMAL, Reason.WITHDRAWN, f"{_ASKED}: {len(touched)} targets return to what they had")
    return Verdict(
        Reason.ROLLING_BACK,
        f"{draft.failure_reason}: {draft.failure_message}; rolling back",
        reconciling=True,
        requeue_after_seconds=SOON_SECONDS,
    )
