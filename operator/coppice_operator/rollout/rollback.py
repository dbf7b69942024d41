"""The way back: every touched target gets the value it had, newest first, and nobody else's value is touched.

Updating, Updated -> RollingBack (stored first) -> previous value applied -> RolledBack
                                                -> Blocked: gone, somebody else's, or not available again
"""

from __future__ import annotations

from datetime import timedelta

from coppice_api.constants import Reason
from coppice_api.modelrollout import OnFailure, TargetState, TargetStatus
from coppice_operator.plan import EventType
from coppice_operator.rollout.draft import MAX_MESSAGE_LENGTH, SOON_SECONDS, Draft, Verdict, stamp
from coppice_operator.rollout.git import brought_back, committed_since, through_git
from coppice_operator.rollout.kinds import FieldUnreadableError
from coppice_operator.rollout.verdicts import Failure

SETTLE = timedelta(seconds=5)
"""A write of the way forward may have landed without the watch having shown it yet: a target that seems to have
its old value counts as taken back only when it still does after this long."""
TOUCHED = frozenset({TargetState.UPDATING, TargetState.UPDATED})


def fail(draft: Draft, failure: Failure) -> Verdict:
    """End the way forward: remember why, and turn round or stop, as onFailure says."""
    draft.actions.clear()
    draft.failure_reason = str(failure.reason)
    draft.failure_message = failure.message[:MAX_MESSAGE_LENGTH]
    draft.announce(EventType.WARNING, failure.reason, failure.message)
    if draft.spec.on_failure is OnFailure.HOLD:
        return Verdict(
            Reason.HELD,
            f"{failure.message}; targets stay as they are (onFailure is Hold)",
            stalled=True,
            event=EventType.WARNING,
        )
    return Verdict(
        Reason.ROLLING_BACK, _sentence(draft, "rolling back"), reconciling=True, requeue_after_seconds=SOON_SECONDS
    )


def roll_back(draft: Draft) -> Verdict:
    """Take every touched target back, at most maxUnavailable in transition at once."""
    newest_first = _newest_first(draft)
    for index in newest_first:
        draft.targets[index] = _observe(draft, draft.targets[index])
    # A target that is already between models takes no further slot: those come first.
    slots = draft.spec.strategy.max_unavailable - sum(
        target.state is TargetState.UPDATING or (target.state is TargetState.ROLLING_BACK and not _late(draft, target))
        for target in draft.targets
    )
    if through_git(draft) and any(
        target.state is TargetState.ROLLING_BACK and not _late(draft, target) for target in draft.targets
    ):
        # One commit a batch, as on the way forward.
        slots = 0
    started = False
    for index in newest_first:
        target = draft.targets[index]
        if target.state is TargetState.UPDATED and slots > 0 and target.cluster not in draft.down:
            slots -= 1
        elif target.state is not TargetState.UPDATING:
            continue
        draft.targets[index] = target.model_copy(
            update={
                "state": TargetState.ROLLING_BACK,
                "updated_time": stamp(draft),
                "message": draft.down.get(target.cluster),
            }
        )
        started = True
    left = [target for target in draft.targets if target.state in (*TOUCHED, TargetState.ROLLING_BACK)]
    if not left:
        blocked = [
            target.key.short
            for target in draft.targets
            if target.state is TargetState.BLOCKED and target.previous_value_set is not None
        ]
        ending = "every touched target has the model it had"
        if blocked:
            ending += f", except where targets[].message says otherwise: {', '.join(blocked[:5])}"
        return Verdict(Reason.ROLLED_BACK, _sentence(draft, ending), stalled=True, event=EventType.WARNING)
    if started:
        draft.wake_after(SOON_SECONDS)
    return Verdict(Reason.ROLLING_BACK, _sentence(draft, "rolling back"), reconciling=True)


def _sentence(draft: Draft, ending: str) -> str:
    return f"{draft.failure_reason}: {draft.failure_message}; {ending}"


def _newest_first(draft: Draft) -> list[int]:
    """Return the places of the targets, last wave first: of a wave's targets the one touched last."""
    touched = {index: (target.wave or 0, target.updated_time or "") for index, target in enumerate(draft.targets)}
    return sorted(touched, key=lambda index: (*touched[index], index), reverse=True)


def _late(draft: Draft, target: TargetStatus) -> bool:
    return draft.since(target.updated_time) > timedelta(seconds=draft.spec.strategy.progress_deadline_seconds)


def _observe(draft: Draft, target: TargetStatus) -> TargetStatus:
    """Move a target that is on its way back; emit the write that takes it there."""
    if target.state is not TargetState.ROLLING_BACK or target.cluster in draft.down:
        return target
    workload = draft.workloads.get(target.key)
    if workload is None:
        return _blocked(target, "it no longer exists")
    if target.previous_value_set is None:
        return _blocked(target, "not taken back: the status was lost, and with it what the target had")
    where = draft.where_of(target)
    try:
        value = workload.held(where)
    except FieldUnreadableError as error:
        return _blocked(target, f"not taken back: {error}")
    previous = (target.previous_value or "") if target.previous_value_set else None
    ours = draft.reference_of(target)
    if value == previous:
        if not brought_back(draft):
            # What the branch has may not have come to the target yet.
            return target
        if workload.complete(previous):
            settled = draft.since(target.updated_time)
            if through_git(draft):
                settled = min(settled, committed_since(draft))
            if settled < SETTLE:
                draft.wake_after(SETTLE / timedelta(seconds=1))
                return target
            return target.model_copy(update={"state": TargetState.ROLLED_BACK, "message": None})
        if _late(draft, target):
            hint = workload.hint()
            return _blocked(
                target,
                "it has the model it had, but did not become available in time" + (f"; {hint}" if hint else ""),
            )
        _wake_at_deadline(draft, target)
        return target
    if value != ours:
        return _blocked(target, f"somebody else changed {where}, so it was left alone")
    draft.actions.append(workload.removing(where, ours) if previous is None else workload.giving(where, previous))
    if _late(draft, target):
        # Keep trying, but let the others pass.
        return target.model_copy(update={"message": "the API server does not accept the value it had"})
    _wake_at_deadline(draft, target)
    return target


def _blocked(target: TargetStatus, message: str) -> TargetStatus:
    return target.model_copy(update={"state": TargetState.BLOCKED, "message": message[:MAX_MESSAGE_LENGTH]})


def _wake_at_deadline(draft: Draft, target: TargetStatus) -> None:
    left = timedelta(seconds=draft.spec.strategy.progress_deadline_seconds) - draft.since(target.updated_time)
    draft.wake_after(left / timedelta(seconds=1) + 1)
