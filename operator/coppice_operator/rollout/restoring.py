"""A status that was wiped while its rollout lived, made again from the record beside it.

What only the status knew is gone: baselines, so that a check with compare Before has nothing to compare with and holds
the rollout for a person to look; and how long the wave was watched, so that its bake time begins anew.
"""

from __future__ import annotations

from coppice_api.base import Condition, ConditionStatus
from coppice_api.constants import ConditionType, Reason
from coppice_api.modelrollout import TargetState, TargetStatus
from coppice_operator.plan import EventType
from coppice_operator.rollout.draft import RETRY_SECONDS, Draft, Verdict, stamp
from coppice_operator.rollout.history import revisions
from coppice_operator.rollout.record import Record
from coppice_operator.rollout.selection import Chosen, SelectionError
from coppice_operator.rollout.waves import cumulative_sizes, wave_of

_LOST = "the status was lost and is made again when all targets can be seen"


def restore(draft: Draft) -> Verdict | None:
    """Go on from the record where the status knows of no wave and the record does; a Verdict says why it cannot yet.

    What cannot be seen cannot be made again, so it waits for every cluster, and nothing else is decided meanwhile.
    """
    record = draft.record
    if record is None or record.wave == 0 or draft.stored.wave:
        return None
    if draft.down:
        return Verdict(Reason.CLUSTER_UNREACHABLE, _LOST, reconciling=True, requeue_after_seconds=RETRY_SECONDS)
    try:
        chosen = draft.chosen()
    except SelectionError as error:
        return Verdict(
            error.reason,
            f"{error.message}; {_LOST}",
            stalled=True,
            event=EventType.WARNING,
            requeue_after_seconds=RETRY_SECONDS,
        )
    sizes = cumulative_sizes(draft.spec.strategy.waves, len(chosen))
    draft.wave, draft.waves = record.wave, len(sizes)
    draft.targets = [_target(draft, record, one, wave_of(index, sizes)) for index, one in enumerate(chosen)]
    draft.failure_reason, draft.failure_message = record.failure_reason, record.failure_message
    if record.state == Reason.ROLLED_OUT:
        draft.history = revisions(draft)
    said = Condition(
        type=ConditionType.READY,
        status=ConditionStatus.UNKNOWN,
        reason=record.state or Reason.ROLLING_OUT,
        message=record.message or "",
        last_transition_time=stamp(draft),
    )
    draft.stored = draft.stored.model_copy(update={"state": record.state, "conditions": [said]})
    return None


def _target(draft: Draft, record: Record, one: Chosen, wave: int) -> TargetStatus:
    target = one.in_wave(max(wave, record.wave))
    value = draft.workloads[one.key].held(one.where)
    has_ours = value == draft.reference_of(target)
    known = one.key in record.held
    if not known and (record.complete or not has_ours):
        return target
    over = record.state is not None
    if record.failure_reason is None and not over and not has_ours:
        # Its wave had begun, and it had not been touched yet.
        return target.model_copy(update={"wave": record.wave})
    if record.state == Reason.ROLLED_BACK:
        state = TargetState.ROLLED_BACK
    elif over or (record.failure_reason is not None and has_ours):
        state = TargetState.UPDATED
    else:
        state = TargetState.UPDATING
    held = record.held.get(one.key)
    return target.model_copy(
        update={
            "state": state,
            "wave": min(wave, record.wave),
            "previous_value": held,
            # Absent: nobody knows what it held, so it cannot be given that back.
            "previous_value_set": held is not None if known else None,
            "updated_time": stamp(draft),
        }
    )
