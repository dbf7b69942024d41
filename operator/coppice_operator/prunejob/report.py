"""What pods leave behind: termination messages, exit codes, why they were ended. Tolerant of anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from coppice_api.constants import ExitCode
from coppice_api.run import RunReport
from coppice_operator.plan import JsonObject
from coppice_operator.prunejob.manifest import CONTAINER
from coppice_operator.prunejob.nodes import LABEL_JOB, leads

LABEL_JOB_UID = "batch.kubernetes.io/controller-uid"
_FINAL = {ExitCode.INPUT_REFUSED, ExitCode.MEASUREMENT_IMPOSSIBLE}


@dataclass(frozen=True)
class Ending:
    """How a pod of the run ended."""

    exit_code: int | None
    """None where the pod was ended before its container had one."""
    report: RunReport | None
    message: str = ""
    """The raw termination message."""
    out_of_memory: bool = False
    disruption: str = ""
    """Who ended the pod, and why, where it was not the run itself."""
    leads: bool = True
    finished_at: str = ""


def pods_of(pods: Iterable[JsonObject], job_name: str, job_uid: str | None = None) -> list[JsonObject]:
    """Return the pods of a Job, the youngest last.

    Args:
        pods: All there are.
        job_name: Of the Job.
        job_uid: Leaves out those of an earlier Job of that name.
    """
    found = [
        pod
        for pod in pods
        if (labels := pod["metadata"].get("labels", {})).get(LABEL_JOB) == job_name
        and job_uid in (None, labels.get(LABEL_JOB_UID, job_uid))
    ]
    return sorted(found, key=lambda pod: (str(pod["metadata"].get("creationTimestamp")), str(pod["metadata"]["name"])))


def answer(pods: Iterable[JsonObject]) -> Ending | None:
    """Return how the pod that speaks for a finished run ended, None while that does not show."""
    return next((end for end in reversed(_endings(pods)) if end.leads and end.exit_code is not None), None)


def cause(pods: Iterable[JsonObject], nodes: int) -> Ending | None:
    """Return the ending that explains the last attempt, None while none has ended.

    When one of several pods fails the others lose it and fail too: what cannot pass comes first, then what somebody
    else did to a pod, then whichever ended first.

    Args:
        pods: Of the Job.
        nodes: How many an attempt has.
    """
    attempt = [end for end in _endings(pods) if end.exit_code != 0][-nodes:]
    return min(attempt, key=_weight, default=None)


def read_report(text: str) -> RunReport | None:
    """Return the report in a termination message, None where it is none."""
    try:
        return RunReport.model_validate_json(text)
    except ValidationError:
        return None


def _weight(end: Ending) -> tuple[bool, bool, bool, bool, str]:
    # Who says that another was lost is not the one that was.
    missed = end.exit_code == ExitCode.PEER_LOST
    return end.exit_code not in _FINAL, not end.out_of_memory, not end.disruption, missed, end.finished_at


def _endings(pods: Iterable[JsonObject]) -> Sequence[Ending]:
    return [found for pod in pods if (found := _ending(pod)) is not None]


def _ending(pod: JsonObject) -> Ending | None:
    status = pod.get("status", {})
    disruption = _disruption(status)
    for container in status.get("containerStatuses") or ():
        terminated = (container.get("state") or {}).get("terminated")
        if container.get("name") == CONTAINER and terminated:
            text = str(terminated.get("message") or "")
            return Ending(
                int(terminated.get("exitCode", 1)), read_report(text), text,
                terminated.get("reason") == "OOMKilled", disruption, leads(pod), str(terminated.get("finishedAt", "")),
            )  # fmt: skip
    if status.get("phase") == "Failed":
        return Ending(None, None, disruption=disruption or _text(status), leads=leads(pod))
    return None


def _disruption(status: JsonObject) -> str:
    if status.get("reason") == "Evicted":
        return _text(status)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return _text(condition)
    return ""


def _text(item: JsonObject) -> str:
    return f"{item.get('reason', 'unknown')}: {item.get('message', '')}".rstrip(": ")
