"""One hardware class: what its Job and pods say, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from coppice_api.constants import ConditionType, ExitCode, Reason
from coppice_api.prunejob import Artifact, HardwareClass, PruneJob, VariantState, VariantStatus
from coppice_api.run import Outcome, Progress, RunReport
from coppice_operator.conditions import instant
from coppice_operator.plan import Action, CreateObject, Event, EventType, JsonObject, PatchObject
from coppice_operator.prunejob.manifest import job_manifest, job_name
from coppice_operator.prunejob.observation import PruneJobObservation
from coppice_operator.prunejob.report import Ending, ending, obstacle, pods_of

REPORT_GRACE = timedelta(seconds=30)
"""How long after its Job's end a pod's report may take to show in the cache."""
PROGRESS_STEP_PERCENT = 5
"""Progress is written in steps of this, and whenever a pruning step ends: every write costs the API server."""
_MAX_MESSAGE = 1024


@dataclass(frozen=True)
class Decision:
    """What to say and do about one hardware class."""

    status: VariantStatus
    reason: Reason
    """What the PruneJob's conditions say as long as this class decides them."""
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = field(default=())
    requeue_after_seconds: float | None = None


def decide(
    observation: PruneJobObservation,
    prunejob: PruneJob,
    hardware: HardwareClass,
    stored: VariantStatus | None,
    now: datetime,
) -> Decision:
    """Decide about one hardware class.

    Args:
        observation: Of this pass.
        prunejob: Parsed.
        hardware: The class.
        stored: What the status says of it; final once finished, whatever becomes of the Job.
        now: The time of the pass.
    """
    name = job_name(prunejob, hardware)
    before = stored or VariantStatus(hardware=hardware.name, state=VariantState.PENDING)
    if before.state.finished:
        return Decision(before, _stored_reason(before, prunejob))
    before = before.model_copy(update={"job_name": name})
    job = observation.jobs.get(name)
    if job is None:
        return _without_job(observation, prunejob, hardware, before)
    pods = pods_of(observation.pods, name)
    conditions = {
        item["type"]: item for item in job.get("status", {}).get("conditions") or () if item.get("status") == "True"
    }
    if "Complete" in conditions:
        return _completed(before, job, ending(pods), now)
    if "Failed" in conditions:
        return _failed(before, conditions["Failed"], ending(pods), job, now)
    if prunejob.spec.suspend:
        return _suspended(before, job)
    return _under_way(observation, prunejob, before, job, pods)


def _without_job(
    observation: PruneJobObservation, prunejob: PruneJob, hardware: HardwareClass, before: VariantStatus
) -> Decision:
    if prunejob.spec.suspend:
        return Decision(_say(before, VariantState.SUSPENDED, "spec.suspend is true: nothing runs"), Reason.SUSPENDED)
    job = job_manifest(prunejob, hardware, default_image=observation.default_image)
    return Decision(
        _say(before, VariantState.PENDING, _queued(prunejob) or _waiting(before)),
        Reason.STARTING,
        (CreateObject(job),),
        (Event(EventType.NORMAL, "JobCreated", f"{hardware.name}: created Job {job['metadata']['name']}"),),
    )


def _suspended(before: VariantStatus, job: JsonObject) -> Decision:
    status = _say(before, VariantState.SUSPENDED, "spec.suspend is true: progress is kept in the last checkpoint")
    if job["spec"].get("suspend"):
        return Decision(status, Reason.SUSPENDED)
    event = Event(EventType.NORMAL, Reason.SUSPENDED, f"{before.hardware}: the pod ends; its checkpoint is kept")
    return Decision(status, Reason.SUSPENDED, (_suspend(job, True),), (event,))


def _under_way(
    observation: PruneJobObservation,
    prunejob: PruneJob,
    before: VariantStatus,
    job: JsonObject,
    pods: list[JsonObject],
) -> Decision:
    actions: tuple[Action, ...] = ()
    if job["spec"].get("suspend"):
        if queued := _queued(prunejob):
            return Decision(_say(before, VariantState.PENDING, queued), Reason.STARTING)
        actions = (_suspend(job, False),)
    pod = next((item for item in reversed(pods) if "deletionTimestamp" not in item["metadata"]), None)
    phase = pod.get("status", {}).get("phase", "Pending") if pod else "Pending"
    if pod is not None and phase == "Pending":
        reason = obstacle(pod)
        if reason is not None:
            status = _say(before, _not_backwards(before), f"the pod cannot start: {reason}")
            event = _on_change(before, status, EventType.WARNING, Reason.POD_CANNOT_START)
            return Decision(status, Reason.POD_CANNOT_START, actions, event)
    progress = observation.progress.get(before.hardware)
    if pod is None or phase != "Running" or progress is None:
        failed = ending(pods)
        said = f"; the last pod ended with {failed.exit_code}" if failed and failed.exit_code else ""
        state = VariantState.RUNNING if phase == "Running" else _not_backwards(before)
        status = _say(before, state, f"{_waiting(before)}{said}")
        return Decision(status, _reason_of(state), actions, _begun(before, status, pod))
    status = _progressed(before, progress)
    return Decision(status, Reason.RUNNING, actions, _begun(before, status, pod))


def _begun(before: VariantStatus, after: VariantStatus, pod: JsonObject | None) -> tuple[Event, ...]:
    if pod is None or after.state is not VariantState.RUNNING or before.state is VariantState.RUNNING:
        return ()
    where = f"pod {pod['metadata']['name']} runs on node {pod.get('spec', {}).get('nodeName', 'unknown')}"
    return (Event(EventType.NORMAL, str(Reason.RUNNING), f"{after.hardware}: {where}"),)


def _progressed(before: VariantStatus, progress: Progress) -> VariantStatus:
    percent = int(progress.progress_ratio * 100) // PROGRESS_STEP_PERCENT * PROGRESS_STEP_PERCENT
    percent = max(percent, before.progress_percent or 0)
    unchanged = (
        before.state is VariantState.RUNNING
        and (before.iteration, before.progress_percent) == (progress.iteration, percent)
        and (before.dense_accuracy_percent is None) == (progress.dense_accuracy_ratio is None)
    )
    if unchanged:
        return before
    return before.model_copy(
        update={
            "state": VariantState.RUNNING,
            "phase": progress.phase.value,
            "iteration": progress.iteration,
            "progress_percent": percent,
            "estimated_completion_time": progress.estimated_completion_time,
            "dense_accuracy_percent": percent_text(progress.dense_accuracy_ratio) or before.dense_accuracy_percent,
            "accuracy_percent": percent_text(progress.accuracy_ratio) or before.accuracy_percent,
            "energy_reduction_percent": percent_text(progress.energy_reduction_ratio)
            or before.energy_reduction_percent,
            "provenance": progress.provenance or before.provenance,
            "message": progress.message[:_MAX_MESSAGE],
        }
    )


def _completed(before: VariantStatus, job: JsonObject, end: Ending | None, now: datetime) -> Decision:
    if end is None and _just_ended(job, now):
        return Decision(before, _reason_of(before.state), requeue_after_seconds=1.0)
    report = end.report if end else None
    if report is None or report.outcome not in (Outcome.TARGET_MET, Outcome.TARGET_NOT_MET):
        said = f"it reads {end.message[:200]!r}" if end and end.message else "there is none"
        message = (
            f"The pod succeeded, but its termination message is no report ({said}). Use an image of this operator's "
            "version; deleting the Job and this PruneJob's status has it run again from its artifacts"
        )
        return _finish(before, VariantState.FAILED, Reason.REPORT_UNREADABLE, message, None)
    met = report.outcome is Outcome.TARGET_MET and report.artifact is not None
    if met:
        return _finish(before, VariantState.TARGET_MET, Reason.TARGET_MET, report.message, report)
    return _finish(before, VariantState.TARGET_NOT_MET, Reason.TARGET_NOT_MET, report.message, report)


def _failed(
    before: VariantStatus, condition: JsonObject, end: Ending | None, job: JsonObject, now: datetime
) -> Decision:
    if condition.get("reason") == "DeadlineExceeded":
        message = (
            "The run did not end within run.activeDeadlineSeconds; its checkpoints are kept. Create the PruneJob "
            "under another name with more time"
        )
        return _finish(before, VariantState.FAILED, Reason.DEADLINE_EXCEEDED, message, None)
    if end is None and _just_ended(job, now):
        return Decision(before, _reason_of(before.state), requeue_after_seconds=1.0)
    said = (end.report.message if end.report else end.message[-500:]) if end else ""
    reasons = {
        ExitCode.INPUT_REFUSED: Reason.INPUT_REFUSED,
        ExitCode.MEASUREMENT_IMPOSSIBLE: Reason.MEASUREMENT_IMPOSSIBLE,
    }
    code = end.exit_code if end else None
    reason = reasons.get(ExitCode(code), Reason.RUN_FAILED) if code in set(ExitCode) else Reason.RUN_FAILED
    if reason is Reason.RUN_FAILED:
        ended = f"the last pod ended with {code}" if code is not None else "its pods are gone"
        hint = "" if said else f"; see `kubectl logs job/{job['metadata']['name']}`"
        why = said or condition.get("message", "")
        said = f"The Job failed ({condition.get('reason', 'Failed')}), {ended}: {why}{hint}"
    return _finish(before, VariantState.FAILED, reason, said, None)


def _finish(
    before: VariantStatus, state: VariantState, reason: Reason, message: str, report: RunReport | None
) -> Decision:
    status = before.model_copy(
        update={
            "state": state,
            "phase": None,
            "estimated_completion_time": None,
            "message": message[:_MAX_MESSAGE],
            **(_figures(report) if report else {}),
        }
    )
    kind = EventType.NORMAL if state is VariantState.TARGET_MET else EventType.WARNING
    return Decision(status, reason, events=_on_change(before, status, kind, reason))


def _figures(report: RunReport) -> JsonObject:
    low, high = report.energy_reduction_interval or (None, None)
    return {
        "iteration": report.iterations,
        "progress_percent": 100,
        "accuracy_percent": percent_text(report.pruned.accuracy_ratio) if report.pruned else None,
        "dense_accuracy_percent": percent_text(report.dense.accuracy_ratio) if report.dense else None,
        "energy_reduction_percent": percent_text(report.energy_reduction_ratio),
        "energy_reduction_low_percent": percent_text(low),
        "energy_reduction_high_percent": percent_text(high),
        "power_reduction_percent": percent_text(report.power_reduction_ratio),
        "latency_speedup": None if report.latency_speedup_ratio is None else f"{report.latency_speedup_ratio:.2f}",
        "memory_reduction_percent": percent_text(report.memory_reduction_ratio),
        "carbon_reduction_percent": percent_text(report.carbon_reduction_ratio),
        "provenance": report.provenance,
        "artifact": Artifact(uri=report.artifact.uri, sha256=report.artifact.sha256) if report.artifact else None,
    }


def percent_text(ratio: float | None) -> str | None:
    """Return a ratio as a decimal string in percent."""
    return None if ratio is None else f"{ratio * 100:.2f}"


def _say(before: VariantStatus, state: VariantState, message: str) -> VariantStatus:
    return before.model_copy(update={"state": state, "message": message[:_MAX_MESSAGE]})


def _queued(prunejob: PruneJob) -> str:
    queue = prunejob.spec.run.queue_name
    return f"waiting for admission by the queue {queue}" if queue else ""


def _waiting(before: VariantStatus) -> str:
    # The same words before and after the Job is there: one status write less.
    return f"Job {before.job_name}: waiting for its pod"


def _not_backwards(before: VariantStatus) -> VariantState:
    """Return Running for what ran before: a pod that is replaced does not look like a new beginning."""
    return VariantState.RUNNING if before.state is VariantState.RUNNING else VariantState.PENDING


def _reason_of(state: VariantState) -> Reason:
    return Reason.RUNNING if state is VariantState.RUNNING else Reason.STARTING


def _stored_reason(variant: VariantStatus, prunejob: PruneJob) -> Reason:
    if variant.state is VariantState.TARGET_MET:
        return Reason.TARGET_MET
    if variant.state is VariantState.TARGET_NOT_MET:
        return Reason.TARGET_NOT_MET
    stalled = [
        item for item in (prunejob.status.conditions if prunejob.status else ()) if item.type == ConditionType.STALLED
    ]
    try:
        reason = Reason(stalled[0].reason) if stalled else Reason.RUN_FAILED
    except ValueError:
        return Reason.RUN_FAILED
    return Reason.RUN_FAILED if reason is Reason.TARGET_NOT_MET else reason


def _just_ended(job: JsonObject, now: datetime) -> bool:
    status = job.get("status", {})
    transitions = [item.get("lastTransitionTime") for item in status.get("conditions") or ()]
    moments = [moment for moment in map(instant, [status.get("completionTime"), *transitions]) if moment is not None]
    return bool(moments) and now - max(moments) < REPORT_GRACE


def _suspend(job: JsonObject, value: bool) -> PatchObject:
    metadata = job["metadata"]
    return PatchObject("batch/v1", "Job", metadata["namespace"], metadata["name"], {"spec": {"suspend": value}})


def _on_change(before: VariantStatus, after: VariantStatus, kind: EventType, reason: str) -> tuple[Event, ...]:
    if (before.state, before.message) == (after.state, after.message):
        return ()
    return (Event(kind, str(reason), f"{after.hardware}: {after.message}"),)
