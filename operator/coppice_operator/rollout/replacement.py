"""A newer rollout takes over the targets of one that is under way.

The newer names the older (spec.replaces) and waits as TargetClaimed. The older begins with no target more, lets those
between two models arrive, and ends; what it has not touched is the newer's, and so is what it has.
"""

from __future__ import annotations

from coppice_api.constants import Reason
from coppice_api.modelrollout import TargetState
from coppice_operator.plan import EventType
from coppice_operator.rollout.draft import Draft, Verdict
from coppice_operator.rollout.progress import observe_targets
from coppice_operator.rollout.rollback import fail


def replaced_by(draft: Draft) -> str | None:
    """Return the rollout that waits to take over; one that could not begin anyway ends nobody."""
    own = draft.rollout.metadata["name"]
    waiting = [
        sibling["metadata"]["name"]
        for sibling in draft.observation.siblings
        if (sibling.get("spec") or {}).get("replaces") == own
        and (sibling.get("status") or {}).get("state") == Reason.TARGET_CLAIMED
        and not sibling["metadata"].get("deletionTimestamp")
    ]
    return min(waiting, default=None)


def hand_over(draft: Draft, newer: str) -> Verdict:
    """Carry on what is between two models; end when nothing is."""
    failure = observe_targets(draft) if draft.wave else None
    if failure is not None:
        return fail(draft, failure)
    if draft.in_transition:
        count = draft.in_transition
        return Verdict(
            Reason.ROLLING_OUT,
            f"ModelRollout {newer} replaces this one, which ends when {count} targets between two models have arrived",
            reconciling=True,
        )
    updated = sum(target.state is TargetState.UPDATED for target in draft.targets)
    draft.wake_ups.clear()
    return Verdict(
        Reason.SUPERSEDED,
        f"ModelRollout {newer} replaces this one: {updated} of {len(draft.targets)} targets had its model",
        stalled=True,
        event=EventType.NORMAL,
    )
