"""The order of decisions about a ModelRollout. Pure: the same observation and time give the same Plan.

lost? -> withdrawn? -> finished? -> paused? -> on the way back? -> replaced? -> refused? -> first wave? -> current wave
"""

from __future__ import annotations

import dataclasses
from datetime import datetime

from pydantic import ValidationError

from coppice_api.constants import ConditionType, Reason
from coppice_operator.plan import EventType, JsonObject, Plan
from coppice_operator.rollout.claims import FINISHED
from coppice_operator.rollout.draft import Draft, Verdict
from coppice_operator.rollout.git import change_of, deliver, fold_in, through_git
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.progress import advance, begin
from coppice_operator.rollout.reach import settle, told
from coppice_operator.rollout.replacement import hand_over, replaced_by
from coppice_operator.rollout.restoring import restore
from coppice_operator.rollout.rollback import fail, roll_back
from coppice_operator.rollout.validation import refusal
from coppice_operator.rollout.withdrawal import turns_round, withdraw


def plan(observation: RolloutObservation, now: datetime) -> Plan:
    """Decide about one rollout.

    Args:
        observation: The rollout, its siblings, the Deployments and this pass's answers.
        now: The time of the pass; aware.

    Returns:
        The whole desired status, equal to the observed one when nothing changed; writes to targets only where the
        stored status already remembers what the target held.
    """
    if observation.rollout.get("metadata", {}).get("deletionTimestamp"):
        return Plan()
    try:
        draft = Draft.of(observation, now)
    except ValidationError as error:
        return _unreadable(observation, error, now)
    lost = restore(draft)
    if draft.stored.state not in FINISHED:
        settle(draft)
    if not through_git(draft):
        verdict = lost or _decide(draft)
        # Told once the decision is made: what it left as it was is known only then.
        return draft.to_plan(
            dataclasses.replace(verdict, message=told(draft, verdict.message)) if verdict.reconciling else verdict
        )
    change = change_of(draft)
    return draft.to_plan(deliver(draft, change, lost or _decide(draft)))


def _decide(draft: Draft) -> Verdict:
    if turns_round(draft):
        return withdraw(draft)
    if draft.stored.state in FINISHED:
        return _finished(draft)
    newer = replaced_by(draft)
    if draft.spec.paused and not draft.spec.withdrawn and newer is None:
        return Verdict(Reason.PAUSED, "spec.paused is true: nothing is touched or asked", event=EventType.NORMAL)
    if draft.stored.state == Reason.PAUSED:
        # The time in which nothing was allowed to happen does not count.
        draft.restart_deadlines()
    failure = fold_in(draft)
    if draft.failure_reason is not None:
        return roll_back(draft)
    if failure is not None:
        return fail(draft, failure)
    if newer is not None:
        return hand_over(draft, newer)
    refused = refusal(draft.spec)
    if refused is not None:
        return Verdict(refused.reason, refused.message, stalled=True, event=EventType.WARNING)
    if draft.wave == 0:
        verdict = begin(draft)
        if verdict is not None:
            return verdict
    return advance(draft)


def _finished(draft: Draft) -> Verdict:
    """Say again what was said at the end: a finished rollout never touches its targets again."""
    reason = Reason(draft.stored.state or "")
    said = [entry.message for entry in draft.stored.conditions if entry.type == ConditionType.READY]
    ready = reason is Reason.ROLLED_OUT
    return Verdict(reason, said[0] if said else "", ready=ready, stalled=not ready)


def _unreadable(observation: RolloutObservation, error: ValidationError, now: datetime) -> Plan:
    """Say that the spec cannot be read, without losing anything the status remembers.

    Happens only to an object stored under another version's CRD. A status that cannot be read is left alone: it
    may hold the only record of what the targets had.
    """
    status: JsonObject = observation.rollout.get("status") or {}
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if field.startswith("status"):
        return Plan()
    # The smallest readable rollout with this status carries the message through the ordinary way.
    stand_in: JsonObject = {
        "apiVersion": "coppice.dev/v1alpha1",
        "kind": "ModelRollout",
        "metadata": observation.rollout["metadata"],
        "spec": {
            "models": [{"name": "unreadable", "uri": "file:///unreadable", "sha256": "0" * 64}],
            "targets": [{"name": "unreadable"}],
        },
        "status": status,
    }
    try:
        draft = Draft.of(RolloutObservation(rollout=stand_in), now)
    except ValidationError:
        return Plan()
    if draft.stored.state in FINISHED:
        return Plan()
    return draft.to_plan(
        Verdict(
            Reason.UNSUPPORTED,
            f"{field}: {first['msg']}: this version cannot read the spec",
            stalled=True,
            event=EventType.WARNING,
        )
    )
