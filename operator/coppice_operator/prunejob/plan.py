"""The order of decisions about a PruneJob. Pure: the same observation and time give the same Plan.

readable? -> each hardware class -> target met on all? -> the rollout
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from coppice_api.base import Condition as ApiCondition
from coppice_api.base import ConditionStatus
from coppice_api.constants import ConditionType, Reason
from coppice_api.modelrollout import ModelRolloutSpec
from coppice_api.prunejob import (
    PruneJob,
    PruneJobStatus,
    RolloutReference,
    VariantState,
    VariantStatus,
)
from coppice_operator.conditions import Condition, conditions
from coppice_operator.plan import Action, ApplyObject, CreateObject, Event, EventType, JsonObject, Plan
from coppice_operator.prunejob.decision import MAX_MESSAGE_LENGTH, Decision, remaining_seconds
from coppice_operator.prunejob.manifest import rollout_manifest, rollout_name
from coppice_operator.prunejob.observation import PruneJobObservation, Refusal
from coppice_operator.prunejob.standing import held, standing
from coppice_operator.prunejob.variant import Moment, decide
from coppice_operator.reading import read

PROGRESS_SECONDS = 10.0
"""The progress of a PruneJob is written this often at most."""


_WELL = (Reason.STARTING, Reason.RUNNING, Reason.SUSPENDED)


@dataclass(frozen=True)
class Verdict:
    """What the conditions say."""

    reason: Reason
    message: str
    ready: bool = False
    stalled: bool = False
    target_met: ConditionStatus = ConditionStatus.UNKNOWN
    rolled_out: ConditionStatus | None = None
    """None where no rollout is asked for."""
    rolled_out_reason: Reason | None = None
    target_met_reason: Reason | None = None
    """None: the reason of Ready."""
    held_by: str = ""
    """Which classes keep the target from being met on all, where there are several."""


def plan(observation: PruneJobObservation, now: datetime) -> Plan:
    """Decide about one PruneJob.

    Args:
        observation: The PruneJob and its children.
        now: The time of the pass; aware.

    Returns:
        The whole desired status, equal to the observed one when nothing changed, and what to do.
    """
    if observation.prunejob.get("metadata", {}).get("deletionTimestamp"):
        # Owner references have the children deleted; targets keep the model they have.
        return Plan()
    try:
        prunejob = read(PruneJob, observation.prunejob)
    except ValidationError as error:
        return _unreadable(observation, error, now)
    stored = prunejob.status or PruneJobStatus()
    known = {variant.hardware: variant for variant in stored.variants}
    stamps = [variant.last_update_time for variant in stored.variants]
    hold = max((remaining_seconds(stamp, PROGRESS_SECONDS, now) for stamp in stamps), default=0.0)
    decisions = [
        decide(observation, prunejob, hardware, known.get(hardware.name), Moment(now, hold))
        for hardware in prunejob.spec.hardware
    ]
    variants = [decision.status for decision in decisions]
    actions: list[Action] = [action for decision in decisions for action in decision.actions]
    events = [event for decision in decisions for event in decision.events]
    if all(variant.state is VariantState.TARGET_MET for variant in variants):
        verdict, reference, action, event = _roll_out(observation, prunejob, variants, stored)
        actions += [action] if action else []
        events += [event] if event else []
    else:
        verdict, reference = _verdict(decisions, prunejob), None
    requeue = [item.requeue_after_seconds for item in decisions if item.requeue_after_seconds is not None]
    requeue += [refusal.wait_seconds for refusal in observation.refused.values() if refusal.wait_seconds > 0]
    return _to_plan(
        prunejob, stored, verdict, variants, reference, now,
        actions=tuple(actions), events=tuple(events), requeue_after_seconds=min(requeue, default=None),
    )  # fmt: skip


def _verdict(decisions: Sequence[Decision], prunejob: PruneJob) -> Verdict:
    """Return what is said while not every class has met its target.

    Every class has to: whichever ended without holds the rollout, and what the others found stays in their entries.
    """
    held_by = held(decisions)
    rolled_out = ConditionStatus.FALSE if prunejob.spec.rollout else None
    running = [item for item in decisions if not item.status.state.finished]
    met = ConditionStatus.FALSE if held_by else ConditionStatus.UNKNOWN
    if running:
        # One obstacle is worth more words than several runs that go well.
        loudest = min(running, key=lambda item: item.reason in _WELL)
    else:
        # A failure first, then a missed target.
        loudest = min(held_by, key=lambda item: item.status.state is not VariantState.FAILED)
    return Verdict(
        loudest.reason, standing(loudest, decisions), stalled=not running, target_met=met, rolled_out=rolled_out,
        target_met_reason=held_by[0].reason if held_by else None, held_by=_holders(held_by, decisions),
    )  # fmt: skip


def _holders(held_by: Sequence[Decision], decisions: Sequence[Decision]) -> str:
    if not held_by or len(decisions) == 1:
        return ""
    return "every hardware class has to meet the target; held by " + ", ".join(
        f"{item.status.hardware} ({item.reason})" for item in held_by
    )


def _roll_out(
    observation: PruneJobObservation, prunejob: PruneJob, variants: list[VariantStatus], stored: PruneJobStatus
) -> tuple[Verdict, RolloutReference | None, Action | None, Event | None]:
    met = ConditionStatus.TRUE
    found = "; ".join(
        f"{item.hardware}: {item.message}" if len(variants) > 1 else item.message or "" for item in variants
    )
    if prunejob.spec.rollout is None:
        return Verdict(Reason.TARGET_MET, found, ready=True, target_met=met), None, None, None
    placed = [observation.placed(hardware) for hardware in prunejob.spec.hardware]
    name, manifest = rollout_name(prunejob, variants), rollout_manifest(prunejob, variants, placed)
    rollout = observation.rollouts.get(name)
    if rollout is None:
        refusal = observation.refused.get(name) or _refused_before(stored)
        reason = Reason.CHILD_REFUSED if refusal else Reason.ROLLING_OUT
        message = refusal.message if refusal else f"Creating ModelRollout {name}"
        event = Event(EventType.NORMAL, "RolloutCreated", f"created ModelRollout {name}")
        verdict = Verdict(
            reason, message, target_met=met, rolled_out=ConditionStatus.FALSE,
            rolled_out_reason=reason,
        )  # fmt: skip
        if refusal and refusal.wait_seconds > 0:
            return verdict, RolloutReference(name=name), None, None
        return verdict, RolloutReference(name=name), CreateObject(manifest), event
    owners = {reference.get("uid") for reference in rollout["metadata"].get("ownerReferences") or ()}
    if prunejob.metadata["uid"] not in owners:
        message = f"a ModelRollout {name} exists that this PruneJob did not make: rename or delete it"
        verdict = Verdict(
            Reason.TARGET_CLAIMED, message, stalled=True, target_met=met, rolled_out=ConditionStatus.FALSE
        )
        return verdict, RolloutReference(name=name), None, None
    # Models cannot be changed; those of a rollout that an earlier version made say less than ours would.
    manifest["spec"]["models"] = rollout["spec"].get("models")
    drift = None if _same_spec(rollout, manifest["spec"]) else ApplyObject(manifest)
    verdict, reference = _rollout_verdict(rollout, name)
    before = stored.rollout.state if stored.rollout else None
    ended: Event | None = None
    if reference.state and reference.state != before and (verdict.ready or verdict.stalled):
        kind = EventType.NORMAL if verdict.ready else EventType.WARNING
        ended = Event(kind, reference.state, f"ModelRollout {name}: {reference.message}")
    return verdict, reference, drift, ended


def _refused_before(stored: PruneJobStatus) -> Refusal | None:
    """Return what was said of a rollout that the API server did not take, where nobody has asked again yet."""
    ready = next((item for item in stored.conditions if item.type == ConditionType.READY), None)
    said = ready is not None and stored.rollout is not None and ready.reason == Reason.CHILD_REFUSED
    return Refusal(ready.message) if ready is not None and said else None


def _rollout_verdict(rollout: JsonObject, name: str) -> tuple[Verdict, RolloutReference]:
    """Return what the rollout's conditions mean for the PruneJob."""
    status = rollout.get("status") or {}
    generation = rollout["metadata"].get("generation", 0)
    current = status.get("observedGeneration", 0) >= generation
    conditions_by_type = {item.get("type"): item for item in status.get("conditions") or ()}
    ready = conditions_by_type.get("Ready", {})
    stalled = conditions_by_type.get("Stalled", {}).get("status") == "True"
    seen = ready.get("status") != ConditionStatus.UNKNOWN
    message = str(ready.get("message") or "") if seen else ""
    message = message or f"ModelRollout {name} has not begun"
    try:
        reason = Reason(ready.get("reason", Reason.ROLLING_OUT))
    except ValueError:
        reason = Reason.ROLLING_OUT
    is_ready = current and ready.get("status") == "True"
    verdict = Verdict(
        reason, message, ready=is_ready, stalled=current and stalled and not is_ready,
        target_met=ConditionStatus.TRUE,
        rolled_out=ConditionStatus.TRUE if is_ready else ConditionStatus.FALSE, rolled_out_reason=reason,
    )  # fmt: skip
    return verdict, RolloutReference(name=name, state=str(reason), message=message[:MAX_MESSAGE_LENGTH])


def _same_spec(rollout: JsonObject, wanted: JsonObject) -> bool:
    try:
        return ModelRolloutSpec.model_validate(rollout.get("spec", {})) == ModelRolloutSpec.model_validate(wanted)
    except ValidationError:
        # Stored under another version's CRD: applying ours again and again would not make it readable.
        return True


def _to_plan(
    prunejob: PruneJob, stored: PruneJobStatus, verdict: Verdict, variants: Sequence[VariantStatus],
    reference: RolloutReference | None, now: datetime, *,
    actions: tuple[Action, ...] = (), events: tuple[Event, ...] = (), requeue_after_seconds: float | None = None,
) -> Plan:  # fmt: skip
    generation = int(prunejob.metadata.get("generation", 0))
    status = PruneJobStatus(
        observed_generation=generation,
        conditions=_conditions(stored, verdict, generation, now),
        variants=list(variants),
        rollout=reference,
        state=str(verdict.reason),
    )
    if verdict.stalled and stored.state != status.state and not events:
        events = (Event(EventType.WARNING, str(verdict.reason), verdict.message[:MAX_MESSAGE_LENGTH]),)
    return Plan(status.to_dict(), actions, events, requeue_after_seconds)


def _conditions(stored: PruneJobStatus, verdict: Verdict, generation: int, now: datetime) -> list[ApiCondition]:
    def flag(kind: ConditionType, holds: bool) -> Condition:
        status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
        return Condition(kind, status, verdict.reason, verdict.message, generation)

    met = verdict.target_met is ConditionStatus.TRUE
    met_reason = Reason.TARGET_MET if met else verdict.target_met_reason or verdict.reason
    wanted = [
        flag(ConditionType.READY, verdict.ready),
        flag(ConditionType.RECONCILING, not verdict.ready and not verdict.stalled),
        flag(ConditionType.STALLED, verdict.stalled),
        Condition(ConditionType.TARGET_MET, verdict.target_met, met_reason, verdict.held_by, generation),
    ]
    if verdict.rolled_out is not None:
        reason = verdict.rolled_out_reason or verdict.reason
        wanted.append(Condition(ConditionType.ROLLED_OUT, verdict.rolled_out, reason, verdict.held_by, generation))
    previous = [item.to_dict() for item in stored.conditions]
    return [ApiCondition.model_validate(item) for item in conditions(previous, wanted, now)]


def _unreadable(observation: PruneJobObservation, error: ValidationError, now: datetime) -> Plan:
    """Say that the spec cannot be read: it was stored under another version's CRD. Nothing is started."""
    metadata, status = observation.prunejob.get("metadata", {}), observation.prunejob.get("status") or {}
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if field.startswith("status"):
        return Plan()
    generation = int(metadata.get("generation", 0))
    message = f"{field}: {first['msg']}: this version cannot read the spec"
    wanted = [
        Condition(kind, value, Reason.UNSUPPORTED, message, generation)
        for kind, value in (
            (ConditionType.READY, ConditionStatus.FALSE),
            (ConditionType.RECONCILING, ConditionStatus.FALSE),
            (ConditionType.STALLED, ConditionStatus.TRUE),
        )
    ]
    found = conditions(status.get("conditions") or [], wanted, now)
    return Plan({**status, "observedGeneration": generation, "conditions": found, "state": str(Reason.UNSUPPORTED)})
