"""One hardware class while its run is under way: what its Job and pods say, and what to do about it.

A finished entry of the status is final, whatever becomes of the Job: the TTL controller may delete it. Everything else
is found again from the cluster. A Job that is gone before its end was seen (deleted by a person, or by a TTL while no
operator ran) is made again under its name once its pods are gone: a run goes on from its last checkpoint, and one that
had ended gives its report again from its artifacts, whose place follows from the spec's digest. A status that was wiped
is the same case: from the Job if it is there, else from the artifacts through a new one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from coppice_api.constants import ConditionType, Reason
from coppice_api.prunejob import HardwareClass, PruneJob, VariantState, VariantStatus
from coppice_api.run import Progress
from coppice_operator.conditions import timestamp
from coppice_operator.plan import Action, CreateObject, DeleteObject, Event, EventType, JsonObject, PatchObject
from coppice_operator.prunejob.decision import (
    MAX_MESSAGE_LENGTH,
    Decision,
    moment_text,
    news,
    not_backwards,
    percent_text,
    reason_of,
    remaining_seconds,
    said,
)
from coppice_operator.prunejob.ended import completed, failed, fall
from coppice_operator.prunejob.manifest import children, job_name
from coppice_operator.prunejob.nodes import leaders
from coppice_operator.prunejob.observation import PruneJobObservation
from coppice_operator.prunejob.obstacle import Obstacle, obstacle
from coppice_operator.prunejob.report import cause, pods_of

PROGRESS_STEP_PERCENT = 5
"""Progress is written in steps of this, and whenever a pruning step ends: every write costs the API server."""
REWORD_SECONDS = 60.0
"""The scheduler says the same in other words each time a node comes or goes."""
START_SECONDS = 60.0
"""A pod that has just started is given this long before it is said not to answer."""
_OVER = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Moment:
    """The time of a pass."""

    now: datetime
    hold_seconds: float = 0.0
    """How long the PruneJob's progress is not to be written yet."""


def decide(
    observation: PruneJobObservation,
    prunejob: PruneJob,
    hardware: HardwareClass,
    stored: VariantStatus | None,
    moment: Moment,
) -> Decision:
    """Decide about one hardware class.

    Args:
        observation: Of this pass.
        prunejob: Parsed.
        hardware: The class.
        stored: What the status says of it; final once finished, whatever becomes of the Job.
        moment: The time of the pass.
    """
    name = job_name(prunejob, hardware)
    before = stored or VariantStatus(hardware=hardware.name, state=VariantState.PENDING)
    if before.state.finished:
        return Decision(before, _stored_reason(before, prunejob))
    before = before.model_copy(update={"job_name": name})
    job = observation.jobs.get(name)
    if job is None:
        return _without_job(observation, prunejob, hardware, before)
    run = _Run(observation, prunejob, hardware, before, job, moment)
    conditions = {
        item["type"]: item for item in job.get("status", {}).get("conditions") or () if item.get("status") == "True"
    }
    if "Complete" in conditions:
        return completed(before, prunejob.spec, job, run.pods, moment.now, observation.clock_set_at)
    if "Failed" in conditions:
        return failed(
            before, prunejob.spec, hardware, job, conditions["Failed"], run.pods, moment.now, observation.clock_set_at
        )
    if "deletionTimestamp" in job["metadata"] and not prunejob.spec.suspend:
        message = f"Job {name} is being deleted; when it is gone another goes on from the last checkpoint"
        return Decision(said(before, not_backwards(before), Reason.STARTING, message), Reason.STARTING)
    return run.suspended() if prunejob.spec.suspend else run.under_way()


def _without_job(
    observation: PruneJobObservation, prunejob: PruneJob, hardware: HardwareClass, before: VariantStatus
) -> Decision:
    if prunejob.spec.suspend:
        # Words that were said when the pods were ended still hold.
        message = "spec.suspend is true: nothing runs"
        kept = before if before.state is VariantState.SUSPENDED else None
        status = kept or said(before, VariantState.SUSPENDED, Reason.SUSPENDED, message)
        return Decision(status, Reason.SUSPENDED)
    left = [pod for pod in pods_of(observation.pods, str(before.job_name)) if _phase(pod) not in _OVER]
    if left:
        # Two pods of one run would write the same checkpoints.
        message = f"Job {before.job_name} is gone and its pod {left[-1]['metadata']['name']} still ends"
        status = said(before, not_backwards(before), Reason.STARTING, message)
        return Decision(status, Reason.STARTING)
    made = children(prunejob, hardware, default_image=observation.default_image, placed=observation.placed(hardware))
    again = before.state is VariantState.RUNNING
    told = f"{hardware.name}: created Job {before.job_name}{' again' if again else ''}"
    # The first is what everybody expects, and the status names it.
    event = Event(EventType.NORMAL, "JobCreated", told, written=again)
    creations = tuple(CreateObject(item) for item in made)
    refusals = [observation.refused[name] for item in made if (name := item["metadata"]["name"]) in observation.refused]
    if refusals:
        status = said(before, not_backwards(before), Reason.CHILD_REFUSED, refusals[0].message)
        if refusals[0].wait_seconds > 0:
            return Decision(status, Reason.CHILD_REFUSED)
        return Decision(status, Reason.CHILD_REFUSED, creations, (event,))
    if before.reason == Reason.CHILD_REFUSED:
        # Nobody has asked again yet.
        return Decision(before, Reason.CHILD_REFUSED, creations, (event,))
    message = _queued(prunejob) or _waiting(before)
    status = said(before, VariantState.PENDING, Reason.STARTING, message)
    return Decision(status, Reason.STARTING, creations, (event,))


@dataclass(frozen=True)
class _Run:
    """A class whose Job is there and has not ended."""

    observation: PruneJobObservation
    prunejob: PruneJob
    hardware: HardwareClass
    before: VariantStatus
    job: JsonObject
    moment: Moment

    @property
    def pods(self) -> list[JsonObject]:
        metadata = self.job["metadata"]
        return pods_of(self.observation.pods, metadata["name"], metadata.get("uid"))

    def suspended(self) -> Decision:
        message = "spec.suspend is true: progress is kept in the last checkpoint"
        status = said(self.before, VariantState.SUSPENDED, Reason.SUSPENDED, message)
        if "deletionTimestamp" in self.job["metadata"]:
            return Decision(status, Reason.SUSPENDED)
        event = Event(EventType.NORMAL, Reason.SUSPENDED, f"{self.before.hardware}: pods end; the checkpoint is kept")
        if self.prunejob.spec.run.queue_name:
            # A suspended Job that its queue has admitted is started by the queue: only a Job that is gone stays down.
            metadata = self.job["metadata"]
            gone = DeleteObject("batch/v1", "Job", metadata["namespace"], metadata["name"], metadata["uid"])
            return Decision(status, Reason.SUSPENDED, (gone,), (event,))
        if self.job["spec"].get("suspend"):
            return Decision(status, Reason.SUSPENDED)
        return Decision(status, Reason.SUSPENDED, (_suspend(self.job, True),), (event,))

    def under_way(self) -> Decision:
        actions: tuple[Action, ...] = ()
        if self.job["spec"].get("suspend"):
            if queued := _queued(self.prunejob):
                status = said(self.before, VariantState.PENDING, Reason.STARTING, queued)
                return Decision(status, Reason.STARTING)
            actions = (_suspend(self.job, False),)
        alive = [pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"] and _phase(pod) not in _OVER]
        pending = [pod for pod in alive if _phase(pod) == "Pending"]
        placed = self.observation.placed(self.hardware)
        found = next((item for pod in pending if (item := obstacle(pod, placed))), None)
        if found is not None:
            return replace(self._blocked(found), actions=actions)
        lead = next((pod for pod in reversed(leaders(alive)) if _phase(pod) == "Running"), None)
        running = len(alive) - len(pending)
        if lead is None or running < self.hardware.nodes:
            return replace(self._silent_or_waiting(lead, running), actions=actions)
        return replace(self._running(lead, alive), actions=actions)

    def _blocked(self, found: Obstacle) -> Decision:
        before = self.before
        status = self._stamped(said(before, not_backwards(before), found.reason, found.message))
        if before.reason == found.reason:
            if found.says_less or status.message == before.message:
                return Decision(before, found.reason)
            wait = remaining_seconds(before.last_update_time, REWORD_SECONDS, self.moment.now)
            if wait > 0:
                return Decision(before, found.reason, requeue_after_seconds=wait)
        return Decision(status, found.reason, events=news(before, status, EventType.WARNING))

    def _silent_or_waiting(self, lead: JsonObject | None, running: int) -> Decision:
        """Decide about a run whose pod has said nothing yet."""
        before, nodes = self.before, self.hardware.nodes
        all_run = lead is not None and running >= nodes
        state = VariantState.RUNNING if all_run else not_backwards(before)
        message = f"{running} of {nodes} pods run" if nodes > 1 and running else _waiting(before)
        last = cause(self.pods, nodes)
        fell = fall(last, self.hardware) if last is not None else None
        reason = reason_of(state)
        if fell is not None:
            reason, message = fell[0], f"{message}; before, {fell[1]}"
        elif last is not None:
            message = f"{message}; the last pod ended with {last.exit_code}"
        status = said(before, state, reason, message)
        events = _begun(before, status, lead) if lead is not None else ()
        return Decision(status, reason, events=(*events, *(news(before, status, EventType.WARNING) if fell else ())))

    def _running(self, lead: JsonObject, alive: list[JsonObject]) -> Decision:
        before, name = self.before, lead["metadata"]["name"]
        progress = self.observation.progress.get(before.hardware)
        silent = self.observation.silent_since.get(before.hardware)
        if progress is None and before.reason == Reason.POD_NOT_ANSWERING:
            # Nobody has heard of it since this operator began.
            return Decision(before, Reason.POD_NOT_ANSWERING)
        starts = [str(pod.get("status", {}).get("startTime", "")) for pod in alive]
        # Pods that wait for the last of them answer nobody, and it takes as long as any to begin.
        wait = remaining_seconds(max(starts), START_SECONDS, self.moment.now)
        if silent is not None and progress is None and wait > 0:
            return replace(self._silent_or_waiting(lead, self.hardware.nodes), requeue_after_seconds=wait)
        if silent is not None:
            message = f"pod {name} has not answered since {timestamp(silent)}: see `kubectl logs {name}`"
            status = said(before, VariantState.RUNNING, Reason.POD_NOT_ANSWERING, message)
            return Decision(status, Reason.POD_NOT_ANSWERING, events=news(before, status, EventType.WARNING))
        if progress is None:
            return self._silent_or_waiting(lead, self.hardware.nodes)
        if not _worth_telling(before, progress):
            return Decision(before, Reason.RUNNING)
        if before.reason == Reason.RUNNING and before.progress_percent is not None and self.moment.hold_seconds > 0:
            return Decision(before, Reason.RUNNING, requeue_after_seconds=self.moment.hold_seconds)
        status = self._stamped(_progressed(before, progress))
        return Decision(status, Reason.RUNNING, events=_begun(before, status, lead))

    def _stamped(self, status: VariantStatus) -> VariantStatus:
        return status.model_copy(update={"last_update_time": timestamp(self.moment.now)})


def _begun(before: VariantStatus, after: VariantStatus, pod: JsonObject) -> tuple[Event, ...]:
    if after.state is not VariantState.RUNNING or before.state is VariantState.RUNNING:
        return ()
    where = f"pod {pod['metadata']['name']} runs on node {pod.get('spec', {}).get('nodeName', 'unknown')}"
    return (Event(EventType.NORMAL, str(Reason.RUNNING), f"{after.hardware}: {where}"),)


def _percent(before: VariantStatus, progress: Progress) -> int:
    percent = int(progress.progress_ratio * 100) // PROGRESS_STEP_PERCENT * PROGRESS_STEP_PERCENT
    return max(percent, before.progress_percent or 0)


def _worth_telling(before: VariantStatus, progress: Progress) -> bool:
    return (
        before.reason != Reason.RUNNING
        or (before.iteration, before.progress_percent) != (progress.iteration, _percent(before, progress))
        or (before.dense_accuracy_percent is None) != (progress.dense_accuracy_ratio is None)
    )


def _progressed(before: VariantStatus, progress: Progress) -> VariantStatus:
    return before.model_copy(
        update={
            "state": VariantState.RUNNING,
            "reason": str(Reason.RUNNING),
            "phase": progress.phase.value,
            "iteration": progress.iteration,
            "progress_percent": _percent(before, progress),
            "estimated_completion_time": moment_text(progress.estimated_completion_time),
            "dense_accuracy_percent": percent_text(progress.dense_accuracy_ratio) or before.dense_accuracy_percent,
            "accuracy_percent": percent_text(progress.accuracy_ratio) or before.accuracy_percent,
            "energy_reduction_percent": percent_text(progress.energy_reduction_ratio)
            or before.energy_reduction_percent,
            "provenance": progress.provenance or before.provenance,
            "message": progress.message[:MAX_MESSAGE_LENGTH],
        }
    )


def _phase(pod: JsonObject) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _queued(prunejob: PruneJob) -> str:
    queue = prunejob.spec.run.queue_name
    return f"waiting for admission by the queue {queue}" if queue else ""


def _waiting(before: VariantStatus) -> str:
    # The same words before and after the Job is there: one status write less.
    return f"Job {before.job_name}: waiting for its pod"


def _stored_reason(variant: VariantStatus, prunejob: PruneJob) -> Reason:
    """Return why a class has ended; an entry of the first version does not say, but the conditions may."""
    if variant.reason in set(Reason):
        return Reason(variant.reason)
    if variant.state is not VariantState.FAILED:
        return Reason.TARGET_MET if variant.state is VariantState.TARGET_MET else Reason.TARGET_NOT_MET
    stored = prunejob.status.conditions if prunejob.status else []
    said_before = next((item.reason for item in stored if item.type == ConditionType.STALLED), "")
    known = said_before in set(Reason) and said_before != Reason.TARGET_NOT_MET
    return Reason(said_before) if known else Reason.RUN_FAILED


def _suspend(job: JsonObject, value: bool) -> PatchObject:
    metadata = job["metadata"]
    return PatchObject("batch/v1", "Job", metadata["namespace"], metadata["name"], {"spec": {"suspend": value}})
