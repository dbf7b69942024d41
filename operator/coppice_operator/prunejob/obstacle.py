"""Why a pod does not start, in one sentence that says what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from coppice_api.constants import Reason
from coppice_api.prunejob import HardwareClass
from coppice_operator.plan import JsonObject

_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_CONTAINER = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"}
_BACK_OFF = "ImagePullBackOff"


@dataclass(frozen=True)
class Obstacle:
    """What keeps a pod from running."""

    reason: Reason
    message: str
    says_less: bool = False
    """The cluster only says that it waits before it tries again: what was said before is worth more."""


def obstacle(pod: JsonObject, hardware: HardwareClass) -> Obstacle | None:
    """Return what keeps a pod from running; None where nothing is known to be wrong.

    Args:
        pod: A pod of the run.
        hardware: Its class.
    """
    status = pod.get("status", {})
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, detail = waiting.get("reason"), str(waiting.get("message") or "no more is said")
        if reason in _IMAGE:
            return Obstacle(Reason.IMAGE_NOT_PULLED, _image(container, f"{reason}: {detail}"), reason == _BACK_OFF)
        if reason in _CONTAINER:
            said = f"the pod's container cannot be made: {reason}: {detail}. Create what is missing in this namespace"
            return Obstacle(Reason.POD_CANNOT_START, f"{said}; the pod tries again by itself")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason, detail = condition.get("reason", "Unschedulable"), condition.get("message", "")
            if reason != "Unschedulable":
                return Obstacle(Reason.POD_CANNOT_START, f"the pod is not scheduled: {reason}: {detail}")
            return Obstacle(Reason.UNSCHEDULABLE, _unschedulable(hardware, str(detail)))
    return None


def _image(container: JsonObject, detail: str) -> str:
    return (
        f"the image {container.get('image', '')} cannot be pulled: {detail}. Push it or create the secret that "
        "run.imagePullSecrets names; for another image create the PruneJob under another name"
    )


def _unschedulable(hardware: HardwareClass, detail: str) -> str:
    """Say what was asked for and what the scheduler said: the operator may not look at nodes."""
    selector = hardware.node_selector or {}
    resources = (hardware.resources.requests or {}) | (hardware.resources.limits or {})
    asked = [
        *(f"{key}={value}" for key, value in selector.items()),
        *(f"{value} {key}" for key, value in resources.items()),
    ]
    keys = f" -L {','.join(selector)}" if selector else ""
    return (
        f"no node fits hardware[{hardware.name}] ({', '.join(asked) or 'nothing is asked for'}): {detail} "
        f"`kubectl get nodes{keys}` shows what there is; the pod starts when a node fits"
    )
