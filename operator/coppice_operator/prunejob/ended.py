"""A Job that has ended: what its pods left becomes the final entry of a hardware class."""

from __future__ import annotations

from datetime import datetime, timedelta

from coppice_api.base import Provenance
from coppice_api.constants import MAX_REPORT_BYTES, ExitCode, Reason
from coppice_api.prunejob import Artifact, HardwareClass, MinimumProvenance, PruneJobSpec, VariantState, VariantStatus
from coppice_api.run import Outcome, RunReport
from coppice_operator.conditions import instant
from coppice_operator.plan import EventType, JsonObject
from coppice_operator.prunejob.decision import Decision, decimal_text, news, percent_text, reason_of, said
from coppice_operator.prunejob.report import Ending, answer, cause

REPORT_GRACE = timedelta(seconds=30)
"""How long after its Job's end a pod's report may take to show in the cache."""
_RENAME = "create the PruneJob under another name with"


def completed(
    before: VariantStatus, spec: PruneJobSpec, job: JsonObject, pods: list[JsonObject], now: datetime,
    set_at: datetime | None = None,
) -> Decision:  # fmt: skip
    """Decide about a Job that completed; `set_at` is when the clock was set."""
    end = answer(pods)
    if end is None and _just_ended(job, now, set_at):
        return Decision(before, reason_of(before.state), requeue_after_seconds=1.0)
    report = end.report if end else None
    if report is None or report.outcome not in (Outcome.TARGET_MET, Outcome.TARGET_NOT_MET):
        return _finish(before, VariantState.FAILED, *_no_report(end, _retry(job)))
    if report.outcome is Outcome.TARGET_NOT_MET or report.artifact is None:
        return _finish(before, VariantState.TARGET_NOT_MET, Reason.TARGET_NOT_MET, report.message, report)
    if below(report.provenance, spec.measurement.minimum_provenance):
        message = (
            f"The energy is {report.provenance or 'of unknown provenance'} and measurement.minimumProvenance asks for "
            f"{spec.measurement.minimum_provenance}: {report.message}"
        )
        return _finish(before, VariantState.TARGET_NOT_MET, Reason.PROVENANCE_TOO_LOW, message, report)
    return _finish(before, VariantState.TARGET_MET, Reason.TARGET_MET, report.message, report)


def failed(
    before: VariantStatus, spec: PruneJobSpec, hardware: HardwareClass, job: JsonObject, condition: JsonObject,
    pods: list[JsonObject], now: datetime, set_at: datetime | None = None,
) -> Decision:  # fmt: skip
    """Decide about a Job that failed; `condition` is its Failed condition."""
    if condition.get("reason") == "DeadlineExceeded":
        limit = spec.run.active_deadline_seconds
        message = (
            f"The run did not end within run.activeDeadlineSeconds ({limit} s); its checkpoints are kept: "
            f"{_retry(job)} goes on for as long again, or {_RENAME} more time"
        )
        return _finish(before, VariantState.FAILED, Reason.DEADLINE_EXCEEDED, message)
    end = cause(pods, hardware.nodes)
    if end is None and _just_ended(job, now, set_at):
        return Decision(before, reason_of(before.state), requeue_after_seconds=1.0)
    return _finish(before, VariantState.FAILED, *_failure(end, spec, hardware, job, condition))


def fall(end: Ending, hardware: HardwareClass) -> tuple[Reason, str] | None:
    """Return why somebody else ended a pod, None where it was the run itself."""
    if end.out_of_memory:
        limit = (hardware.resources.limits or {}).get("memory")
        where = f"its memory limit ({limit})" if limit else "the node's memory"
        return Reason.OUT_OF_MEMORY, (
            f"the pod was killed at {where}: {_RENAME} a higher resources.limits.memory in hardware[{hardware.name}], "
            "or a smaller algorithm.fineTune.microBatchSize or measurement.batchSize"
        )
    if end.disruption:
        return Reason.EVICTED, f"the pod was taken off its node ({end.disruption})"
    return None


def below(provenance: Provenance | None, minimum: MinimumProvenance) -> bool:
    """Return whether a figure is worth less than the least that counts."""
    if minimum is MinimumProvenance.ESTIMATED:
        return provenance not in (Provenance.MEASURED, Provenance.ESTIMATED)
    return provenance is not Provenance.MEASURED


def _retry(job: JsonObject) -> str:
    """Return the command that starts a run again from its last checkpoint."""
    owner = next(iter(job["metadata"].get("ownerReferences") or ()), {"name": "NAME"})
    return f"`coppice retry {owner['name']}`"


def _no_report(end: Ending | None, retry: str) -> tuple[Reason, str]:
    if end is not None and len(end.message.encode()) >= MAX_REPORT_BYTES:
        return Reason.REPORT_TOO_LONG, (
            f"The pod succeeded, but its report is longer than the {MAX_REPORT_BYTES} bytes a termination message may "
            "have and was cut; the whole of it is report.json under output.uri. Use an image of this operator's version"
        )
    found = f"it reads {end.message[:200]!r}" if end and end.message else "there is none"
    return Reason.REPORT_UNREADABLE, (
        f"The pod succeeded, but its termination message is no report ({found}). Use an image of this operator's "
        f"version; {retry} has it give its report again from its artifacts"
    )


def _failure(
    end: Ending | None, spec: PruneJobSpec, hardware: HardwareClass, job: JsonObject, condition: JsonObject
) -> tuple[Reason, str]:
    name = job["metadata"]["name"]
    why = (end.report.message if end.report else end.message[-500:]) if end else ""
    logs = f"see `kubectl logs job/{name}`"
    code = end.exit_code if end else None
    if end is not None and code == ExitCode.INPUT_REFUSED:
        return Reason.INPUT_REFUSED, why or f"The pod refused its input and did not say why; {logs}"
    if end is not None and code == ExitCode.MEASUREMENT_IMPOSSIBLE:
        offered = end.report.provenance if end.report else None
        too_low = offered is not None and below(offered, spec.measurement.minimum_provenance)
        reason = Reason.PROVENANCE_TOO_LOW if too_low else Reason.MEASUREMENT_IMPOSSIBLE
        return reason, why or f"The pod cannot measure there and did not say why; {logs}"
    fell = fall(end, hardware) if end else None
    again = f". {_retry(job)} goes on from the last checkpoint when that is mended"
    ended = f"the last pod ended with {code}" if code is not None else "its pods are gone"
    if condition.get("reason") == "BackoffLimitExceeded":
        tries = f"The run failed more often than run.backoffLimit ({spec.run.backoff_limit}) allows"
        if fell is not None:
            return fell[0], f"{tries}; {fell[1]}{again if fell[0] is Reason.EVICTED else ''}"
        return Reason.BACKOFF_LIMIT_EXCEEDED, f"{tries}; {ended}: {(why or logs).rstrip('.')}{again}"
    if fell is not None:
        told = again if fell[0] is Reason.EVICTED else ""
        return fell[0], f"The Job failed ({condition.get('reason', 'Failed')}); {fell[1]}{told}"
    said_by_job = condition.get("message", "")
    told = (why or said_by_job).rstrip(".") + ("" if why else f"; {logs}")
    return Reason.RUN_FAILED, f"The Job failed ({condition.get('reason', 'Failed')}), {ended}: {told}{again}"


def _finish(
    before: VariantStatus, state: VariantState, reason: Reason, message: str, report: RunReport | None = None
) -> Decision:
    over = {"phase": None, "estimated_completion_time": None, **(_figures(report) if report else {})}
    status = said(before, state, reason, message).model_copy(update=over)
    kind = EventType.NORMAL if state is VariantState.TARGET_MET else EventType.WARNING
    return Decision(status, reason, events=news(before, status, kind))


def _figures(report: RunReport) -> JsonObject:
    low, high = report.energy_reduction_interval or (None, None)
    return {
        "iteration": max(0, report.iterations),
        "progress_percent": 100,
        "accuracy_percent": percent_text(report.pruned.accuracy_ratio) if report.pruned else None,
        "dense_accuracy_percent": percent_text(report.dense.accuracy_ratio) if report.dense else None,
        "energy_reduction_percent": percent_text(report.energy_reduction_ratio),
        "energy_reduction_low_percent": percent_text(low),
        "energy_reduction_high_percent": percent_text(high),
        "power_reduction_percent": percent_text(report.power_reduction_ratio),
        "latency_speedup": decimal_text(report.latency_speedup_ratio),
        "memory_reduction_percent": percent_text(report.memory_reduction_ratio),
        "carbon_reduction_percent": percent_text(report.carbon_reduction_ratio),
        "provenance": report.provenance,
        "artifact": Artifact(uri=report.artifact.uri, sha256=report.artifact.sha256) if report.artifact else None,
    }


def _just_ended(job: JsonObject, now: datetime, set_at: datetime | None) -> bool:
    status = job.get("status", {})
    transitions = [item.get("lastTransitionTime") for item in status.get("conditions") or ()]
    moments = [moment for moment in map(instant, [status.get("completionTime"), *transitions]) if moment is not None]
    end = max(moments, default=None)
    if end is None:
        return False
    if set_at is not None and not set_at <= end <= now + REPORT_GRACE:
        # By the clock as it was.
        end = set_at
    # The Job controller may have another clock: what ends far in the future is not waited for.
    return abs(now - end) < REPORT_GRACE
