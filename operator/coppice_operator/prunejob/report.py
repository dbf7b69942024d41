"""What pods leave behind: termination messages, exit codes, reasons why they do not start. Tolerant of anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from coppice_api.constants import LABEL_HARDWARE
from coppice_api.run import RunReport
from coppice_operator.plan import JsonObject
from coppice_operator.prunejob.manifest import CONTAINER

CANNOT_START = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
}


@dataclass(frozen=True)
class Ending:
    """How the run's container ended."""

    exit_code: int
    report: RunReport | None
    message: str
    """The raw message where it is no report."""


def pods_of(pods: Iterable[JsonObject], job_name: str) -> list[JsonObject]:
    """Return the pods of a Job, the youngest last."""
    found = [pod for pod in pods if pod["metadata"].get("labels", {}).get("batch.kubernetes.io/job-name") == job_name]
    return sorted(found, key=lambda pod: (str(pod["metadata"].get("creationTimestamp")), str(pod["metadata"]["name"])))


def ending(pods: Iterable[JsonObject]) -> Ending | None:
    """Return how the last pod that ended did, None while none has."""
    for pod in reversed(list(pods)):
        for status in pod.get("status", {}).get("containerStatuses") or ():
            terminated = (status.get("state") or {}).get("terminated")
            if status.get("name") == CONTAINER and terminated:
                text = str(terminated.get("message") or "")
                return Ending(int(terminated.get("exitCode", 1)), read_report(text), text)
    return None


def read_report(text: str) -> RunReport | None:
    """Return the report in a termination message, None where it is none."""
    try:
        return RunReport.model_validate_json(text)
    except ValidationError:
        return None


def obstacle(pod: JsonObject) -> str | None:
    """Return why a pod does not start, in the cluster's own words; None where nothing is known to be wrong."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in CANNOT_START:
            return f"{waiting['reason']}: {waiting.get('message', '')}"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}"
    return None


def hardware_of(pod: JsonObject) -> str:
    """Return the hardware class a pod was made for."""
    return str(pod["metadata"].get("labels", {}).get(LABEL_HARDWARE, ""))
