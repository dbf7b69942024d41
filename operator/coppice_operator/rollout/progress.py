"""The way forward: one wave after another, each touched, available, baked and judged before the next.

    Pending -> (healthy? baseline?) -> Updating, previous value stored -> next pass: applied -> Updated
    all Updated -> bake, checks -> approval -> next wave, or RolledOut

A target is written only when the *stored* status says Updating, so what it held before is never lost.
"""

from __future__ import annotations

from datetime import timedelta

from coppice_api.constants import ANNOTATION_ALLOW_DIRECT, ANNOTATION_ALLOW_HARDWARE, Reason
from coppice_api.modelrollout import Approval, TargetKey, TargetState, TargetStatus
from coppice_operator.conditions import instant
from coppice_operator.plan import EventType
from coppice_operator.rollout.analysis import Purpose, bake_end, canary_fault, due_at, watched
from coppice_operator.rollout.claims import claims
from coppice_operator.rollout.draft import RETRY_SECONDS, SOON_SECONDS, Draft, Verdict, stamp
from coppice_operator.rollout.gathering import seconds_to_wait
from coppice_operator.rollout.git import free_slots, key_fault, through_git
from coppice_operator.rollout.gitops import allows_direct, gitops_owner
from coppice_operator.rollout.hardware import hardware_mismatch
from coppice_operator.rollout.history import revisions
from coppice_operator.rollout.joining import join
from coppice_operator.rollout.kinds import FieldUnreadableError, Workload
from coppice_operator.rollout.reach import held
from coppice_operator.rollout.rollback import fail
from coppice_operator.rollout.selection import SelectionError, select
from coppice_operator.rollout.validation import other_result
from coppice_operator.rollout.verdicts import Failure, accepted, holding, new_wave, record_answers, without_baseline
from coppice_operator.rollout.waves import cumulative_sizes, wave_of


def begin(draft: Draft) -> Verdict | None:
    """Choose the targets and begin the first wave; a Verdict says why not."""
    try:
        chosen = draft.chosen()
    except SelectionError as error:
        draft.targets, draft.waves = [], 0
        return _stalled(error.reason, error.message)
    if not chosen:
        draft.targets, draft.waves = [], 0
        return _unreachable(draft, "the first wave waits")
    sizes = cumulative_sizes(draft.spec.strategy.waves, len(chosen))
    draft.waves = len(sizes)
    draft.targets = [one.in_wave(wave_of(index, sizes)) for index, one in enumerate(chosen)]
    if fault := key_fault(draft):
        return _stalled(Reason.TARGET_INVALID, fault)
    if fault := canary_fault(draft):
        return _stalled(Reason.UNSUPPORTED, fault)
    if refused := other_result(draft.spec, draft.observation.prunejobs):
        return _stalled(refused.reason, refused.message)
    return _next_wave(draft)


def advance(draft: Draft) -> Verdict:
    """Carry the current wave on."""
    join(draft)
    failure = observe_targets(draft) or record_answers(draft)
    if failure is not None:
        return fail(draft, failure)
    here = [target for target in draft.targets if not held(draft, target)]
    if any(target.wave == draft.wave and target.state is not TargetState.UPDATED for target in here):
        return _touch(draft)
    if draft.down and not any(target.state is TargetState.UPDATED for target in here):
        # What goes first proves the model: nobody goes ahead of it because it is out of sight.
        return _unreachable(draft, f"wave {draft.wave} of {draft.waves} waits")
    return _bake(draft)


def _next_wave(draft: Draft) -> Verdict | None:
    """Begin the wave after the current one, if nobody and nothing stands in its way."""
    verdict = _blocked(draft)
    if verdict is not None:
        return verdict
    number = draft.wave + 1
    strategy = draft.spec.strategy
    asked = number <= len(strategy.waves) and strategy.waves[number - 1].approval
    if (asked or strategy.approval is Approval.MANUAL) and strategy.approved_wave < number:
        return Verdict(
            Reason.WAITING_FOR_APPROVAL,
            f"wave {number} of {draft.waves} begins when strategy.approvedWave is {number} or more",
            reconciling=True,
            event=EventType.NORMAL,
        )
    if draft.wave:
        draft.announce(EventType.NORMAL, Reason.ROLLING_OUT, f"wave {draft.wave} of {draft.waves} is done")
    draft.wave = number
    draft.wave_available_time = None
    _record_held(draft)
    new_wave(draft)
    count = sum(target.wave == number for target in draft.targets)
    draft.announce(
        EventType.NORMAL,
        Reason.ROLLING_OUT,
        f"wave {number} of {draft.waves} begins: {count} of {len(draft.targets)} targets",
    )
    return None


def _blocked(draft: Draft) -> Verdict | None:
    """Say who else has a target that is still to be touched, or why its model is not for it."""
    untouched = (TargetState.PENDING, TargetState.BLOCKED)
    pending = [target.key for target in draft.targets if target.state in untouched and target.cluster not in draft.down]
    taken = claims(draft.observation.rollout, draft.observation.siblings, draft.workloads, pending)
    owned = {
        key: owner
        for key in pending
        if not through_git(draft)
        and (owner := gitops_owner(draft.workloads[key].body))
        and not allows_direct(draft.workloads[key].body)
    }
    models = {target.key: draft.model_of(target) for target in draft.targets}
    elsewhere = {key: fault for key in pending if (fault := hardware_mismatch(models[key], draft.workloads[key].body))}
    messages = (
        elsewhere
        | {key: f"{owner} owns it" for key, owner in owned.items()}
        | {key: f"ModelRollout {other} has it" for key, other in taken.items()}
    )

    def mark(target: TargetStatus) -> TargetStatus:
        if target.key not in pending:
            return target
        message = messages.get(target.key)
        state = TargetState.BLOCKED if message else TargetState.PENDING
        return target.model_copy(update={"state": state, "message": message})

    draft.change_targets(mark)
    if taken:
        key, other = min(taken.items())
        return _stalled(
            Reason.TARGET_CLAIMED,
            f"ModelRollout {other} has {key}{_others(taken)}: wait until it has finished, or delete it",
        )
    if owned:
        key, owner = min(owned.items())
        return _stalled(
            Reason.MANAGED_BY_GITOPS,
            f"{owner} owns {key}{_others(owned)} and would undo the change: use strategy.delivery: Git, "
            f'or annotate the {key.kind} with {ANNOTATION_ALLOW_DIRECT}: "true"',
        )
    if elsewhere:
        key, fault = min(elsewhere.items())
        return _stalled(
            Reason.HARDWARE_MISMATCH,
            f"{key}{_others(elsewhere)}: {fault}: give its pods that node selector, choose another model, "
            f'or annotate the {key.kind} with {ANNOTATION_ALLOW_HARDWARE}: "true"',
        )
    return None


def _others(targets: dict[TargetKey, str]) -> str:
    return f" and {len(targets) - 1} more" if len(targets) > 1 else ""


def _stalled(reason: Reason, message: str) -> Verdict:
    return Verdict(reason, message, stalled=True, event=EventType.WARNING, requeue_after_seconds=RETRY_SECONDS)


def observe_targets(draft: Draft) -> Failure | None:
    """Compare every frozen target with its workload; emit the writes that the stored status allows."""
    targets = []
    for target in draft.targets:
        if target.cluster in draft.down:
            targets.append(target)
            continue
        workload = draft.workloads.get(target.key)
        if workload is None:
            return Failure(Reason.TARGET_NOT_FOUND, f"{target.key} was deleted during the rollout")
        try:
            value = workload.held(draft.where_of(target))
        except FieldUnreadableError as error:
            return Failure(Reason.TARGET_INVALID, str(error))
        seen = _observe(draft, target, workload, value)
        if isinstance(seen, Failure):
            return seen
        targets.append(seen)
    draft.targets = _gathered(draft, targets)
    return None


def _gathered(draft: Draft, targets: list[TargetStatus]) -> list[TargetStatus]:
    """Return the targets, those that have just arrived as before while others are expected to arrive shortly."""
    arrived = {
        target.key
        for before, target in zip(draft.targets, targets, strict=True)
        if (before.state, target.state) == (TargetState.UPDATING, TargetState.UPDATED)
    }
    wait = seconds_to_wait(
        [draft.workloads[key] for key in arrived],
        moving=sum(target.state is TargetState.UPDATING for target in targets),
        most=draft.spec.strategy.max_unavailable,
        now=draft.now,
    )
    if not wait:
        return targets
    draft.wake_after(wait)
    return [before if target.key in arrived else target for before, target in zip(draft.targets, targets, strict=True)]


def _observe(draft: Draft, target: TargetStatus, workload: Workload, value: str | None) -> TargetStatus | Failure:
    if target.state not in (TargetState.UPDATING, TargetState.UPDATED):
        return target
    where, ours = draft.where_of(target), draft.reference_of(target)
    previous = (target.previous_value or "") if target.previous_value_set else None
    waiting_for_our_write = target.state is TargetState.UPDATING and value == previous
    if value != ours and not waiting_for_our_write:
        return Failure(Reason.TARGET_CLAIMED, f"somebody else changed {where} of {target.key} during the rollout")
    deadline = timedelta(seconds=draft.spec.strategy.progress_deadline_seconds)
    hint = workload.hint()
    late = Failure(
        Reason.PROGRESS_DEADLINE_EXCEEDED,
        f"{target.key} did not become available with the new model within its deadline" + (f"; {hint}" if hint else ""),
    )
    if target.state is TargetState.UPDATED:
        # Somebody may have changed it since: what does not come up again with the model is no target that serves it.
        target = _watched_over(draft, target, workload)
        since = workload.down_since() or instant(target.unavailable_time)
        gone = since is not None and draft.now - since > deadline
        return late if gone or workload.failed() else target
    if value == ours and workload.complete(ours):
        return target.model_copy(update={"state": TargetState.UPDATED, "message": None})
    if (draft.since(target.updated_time) > deadline and not draft.deadlines_rest) or (
        value == ours and workload.failed()
    ):
        return late
    if value != ours:
        draft.actions.append(workload.giving(where, ours))
    draft.wake_after((deadline - draft.since(target.updated_time)) / timedelta(seconds=1) + 1)
    return target


def _watched_over(draft: Draft, target: TargetStatus, workload: Workload) -> TargetStatus:
    """Remember since when a target that has arrived is down, where nobody else does."""
    if not workload.down() or workload.down_since() is not None:
        return target.model_copy(update={"unavailable_time": None})
    deadline = draft.spec.strategy.progress_deadline_seconds
    draft.wake_after(deadline - draft.since(target.unavailable_time) / timedelta(seconds=1) + 1)
    return target.model_copy(update={"unavailable_time": target.unavailable_time or stamp(draft)})


def _touch(draft: Draft) -> Verdict:
    """Let pending targets of the wave begin, as many as may be in transition."""
    verdict = _blocked(draft)
    if verdict is not None:
        return verdict
    _record_held(draft)
    slots = free_slots(draft)
    waiting = without_baseline(draft)
    ill: list[str] = []
    targets = []
    for target in draft.targets:
        if target.wave != draft.wave or target.state is not TargetState.PENDING or target.cluster in draft.down:
            targets.append(target)
            continue
        fault = draft.workloads[target.key].unhealthy()
        target = target.model_copy(update={"message": fault})
        if fault:
            ill.append(fault)
        elif slots > 0 and target.key not in waiting:
            slots -= 1
            target = _touched(draft, target)
            draft.wake_after(SOON_SECONDS)
        targets.append(target)
    draft.targets = targets
    _wake_for_checks(draft)
    if ill and not draft.in_transition:
        draft.wake_after(RETRY_SECONDS)
        more = f" (and {len(ill) - 1} more)" if len(ill) > 1 else ""
        return Verdict(
            Reason.TARGET_UNHEALTHY,
            f"{ill[0]}{more}, so wave {draft.wave} of {draft.waves} does not touch it: waiting until it is healthy",
            reconciling=True,
            event=EventType.WARNING,
        )
    if not draft.in_transition and (verdict := _held(draft)):
        return verdict
    return Verdict(Reason.ROLLING_OUT, f"wave {draft.wave} of {draft.waves} is being rolled out", reconciling=True)


def _record_held(draft: Draft) -> None:
    """Have what the wave's targets hold remembered beside the status, in one write for all of them."""
    for target in draft.targets:
        if (target.wave, target.state) == (draft.wave, TargetState.PENDING) and target.key in draft.workloads:
            draft.held[target.key] = _value(draft, target)


def _value(draft: Draft, target: TargetStatus) -> str | None:
    """Return what a target held before the rollout: of one that has the model already, what is remembered of it."""
    value = draft.workloads[target.key].held(draft.where_of(target))
    return draft.held.get(target.key, value) if value == draft.reference_of(target) else value


def _touched(draft: Draft, target: TargetStatus) -> TargetStatus:
    """Remember what the target holds; the write follows when this is stored."""
    value = _value(draft, target)
    return target.model_copy(
        update={
            "state": TargetState.UPDATING,
            "previous_value": value,
            "previous_value_set": value is not None,
            "updated_time": stamp(draft),
        }
    )


def _bake(draft: Draft) -> Verdict:
    """Every target of the wave is updated: watch, and go on when everything holds."""
    if draft.wave_available_time is None:
        draft.wave_available_time = stamp(draft)
    end = bake_end(draft)
    assert end is not None
    _wake_for_checks(draft)
    if draft.now < end:
        draft.wake_at(end)
    if verdict := _held(draft):
        return verdict
    restarting = [
        target.key
        for target in draft.targets
        if target.state is TargetState.UPDATED
        and target.cluster not in draft.down
        and not draft.workloads[target.key].complete(draft.reference_of(target))
    ]
    if restarting:
        draft.wake_after(RETRY_SECONDS)
    if draft.now < end or restarting or not accepted(draft):
        what = f"waits for {restarting[0]} to be available" if restarting else "is watched"
        return Verdict(Reason.WAITING, f"wave {draft.wave} of {draft.waves} {what}", reconciling=True)
    if draft.wave >= draft.waves:
        return _left_out(draft) or _rolled_out(draft)
    return _next_wave(draft) or _begun(draft)


def _left_out(draft: Draft) -> Verdict | None:
    """Say which clusters have not taken part yet, or not to the end: a fleet is done when all of it is."""
    if draft.down:
        updated = sum(target.state is TargetState.UPDATED for target in draft.targets)
        return _unreachable(draft, f"{updated} of {len(draft.targets)} targets have the new model")
    known = {target.cluster for target in draft.targets}
    if any(target.cluster not in known for target in draft.spec.targets):
        try:
            select(draft.spec.targets, draft.spec.models, draft.workloads)
        except SelectionError as error:
            # Of a cluster that was down when the first wave began.
            return _stalled(error.reason, error.message)
    return None


def _unreachable(draft: Draft, message: str) -> Verdict:
    draft.wake_after(RETRY_SECONDS)
    return Verdict(Reason.CLUSTER_UNREACHABLE, message, reconciling=True)


def _begun(draft: Draft) -> Verdict:
    draft.wake_after(SOON_SECONDS)
    return Verdict(Reason.ROLLING_OUT, f"wave {draft.wave} of {draft.waves} is being rolled out", reconciling=True)


def _rolled_out(draft: Draft) -> Verdict:
    draft.wake_ups.clear()
    draft.announce(EventType.NORMAL, Reason.ROLLING_OUT, f"wave {draft.wave} of {draft.waves} is done")
    judged = " and every check passed" if draft.spec.analysis else ""
    draft.history = revisions(draft)
    return Verdict(
        Reason.ROLLED_OUT,
        f"all {len(draft.targets)} targets serve the new model{judged}",
        ready=True,
        event=EventType.NORMAL,
    )


def _held(draft: Draft) -> Verdict | None:
    held = holding(draft)
    if held is None:
        return None
    reason, entries = held
    first = min(entries, key=lambda entry: (entry.target_key, entry.name))
    more = f" (and {len(entries) - 1} more)" if len(entries) > 1 else ""
    where = f"check {first.name} on {first.target_key.short}"
    return Verdict(
        reason,
        f"{where}: {first.message}{more}; wave {draft.wave} of {draft.waves} waits",
        reconciling=True,
        event=EventType.WARNING,
    )


def _wake_for_checks(draft: Draft) -> None:
    analysis = draft.spec.analysis
    if analysis is None:
        return
    for target in watched(draft):
        for check in analysis.checks:
            for purpose in Purpose:
                due = due_at(draft, check, target, purpose)
                if due is not None:
                    draft.wake_at(due)
