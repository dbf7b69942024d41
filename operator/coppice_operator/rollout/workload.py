"""Reading a Deployment: what its model variable holds, whether it is healthy, whether its rollout is complete."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from coppice_api.modelrollout import TargetKey
from coppice_operator.conditions import instant
from coppice_operator.plan import JsonObject

MAX_VALUE_LENGTH = 2304
"""A longer value does not fit in status.targets[].previousValue, so it could not be put back."""


@dataclass(frozen=True)
class EnvField:
    """One environment variable of one container."""

    container_index: int
    env_index: int | None
    """None: the variable is not set."""
    value: str | None
    """None: the variable is not set."""


class FieldUnreadableError(Exception):
    """The container or its variable cannot be used; the message is a sentence for the user."""


def by_key(workloads: Iterable[JsonObject], cluster: str | None = None) -> dict[TargetKey, JsonObject]:
    """Return the workloads of a cluster that are not being deleted."""
    return {
        key: workload
        for workload in workloads
        if (key := key_of(workload, cluster)) is not None and not workload["metadata"].get("deletionTimestamp")
    }


def key_of(workload: JsonObject, cluster: str | None = None) -> TargetKey | None:
    """Return which target a workload of a cluster may be, None if its kind is none of them."""
    kind = workload.get("kind")
    return TargetKey.read({"kind": kind, "name": workload["metadata"]["name"], "cluster": cluster}) if kind else None


def title(workload: JsonObject) -> str:
    """Return how a sentence names a workload."""
    return f"{workload.get('kind')} {workload['metadata']['name']}"


def container_names(workload: JsonObject) -> list[str]:
    """Return the names of the pod's ordinary containers."""
    return [container["name"] for container in _containers(workload)]


def env_field(workload: JsonObject, container: str, env: str) -> EnvField:
    """Find the variable.

    Raises:
        FieldUnreadableError: If there is no such container, or the variable is set twice, comes from somewhere
            else (valueFrom), or is too long to be remembered.
    """
    name = title(workload)
    names = container_names(workload)
    if container not in names:
        raise FieldUnreadableError(f"{name} has no container {container}; it has: {', '.join(names) or 'none'}")
    container_index = names.index(container)
    entries = _containers(workload)[container_index].get("env") or []
    found = [(index, entry) for index, entry in enumerate(entries) if entry.get("name") == env]
    if not found:
        return EnvField(container_index, None, None)
    if len(found) > 1:
        raise FieldUnreadableError(f"{name} sets {env} {len(found)} times in container {container}: leave one")
    env_index, entry = found[0]
    if entry.get("valueFrom"):
        raise FieldUnreadableError(f"{name} takes {env} from valueFrom in container {container}: give it a plain value")
    value = entry.get("value", "")
    if len(value) > MAX_VALUE_LENGTH:
        raise FieldUnreadableError(f"{name} has a {env} of more than {MAX_VALUE_LENGTH} characters: shorten it")
    return EnvField(container_index, env_index, value)


def unhealthy(workload: JsonObject) -> str | None:
    """Return why the Deployment is not fit to be touched, or None: it must be available and up to date."""
    name = title(workload)
    if workload.get("spec", {}).get("paused"):
        return f"{name} is paused"
    if not _observed(workload):
        return f"{name} has a change that its controller has not seen yet"
    available = condition(workload, "Available")
    if available is None or available.get("status") != "True":
        return f"{name} is not available"
    return None


def available_pods(workload: JsonObject) -> int:
    """Return how many pods are available."""
    return int((workload.get("status") or {}).get("availableReplicas", 0))


def complete(workload: JsonObject) -> bool:
    """Return whether every replica is of the current template and available, as `kubectl rollout status` judges."""
    if not _observed(workload) or deadline_exceeded(workload):
        return False
    status = workload.get("status") or {}
    want = workload.get("spec", {}).get("replicas", 1)
    replicas = status.get("replicas", 0)
    updated = status.get("updatedReplicas", 0)
    return bool(updated >= want and replicas == updated == status.get("availableReplicas", 0))


def deadline_exceeded(workload: JsonObject) -> bool:
    """Return whether the Deployment's own progressDeadlineSeconds passed on its current template."""
    progressing = condition(workload, "Progressing")
    return _observed(workload) and progressing is not None and progressing.get("reason") == "ProgressDeadlineExceeded"


def unavailable_for(workload: JsonObject, now: datetime) -> timedelta:
    """Return how long the Deployment has said that it is not available; zero when it does not say so."""
    available = condition(workload, "Available")
    since = instant(available.get("lastTransitionTime")) if available and available.get("status") == "False" else None
    return now - since if since else timedelta(0)


def _containers(workload: JsonObject) -> list[JsonObject]:
    return workload.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or []


def _observed(workload: JsonObject) -> bool:
    generation = workload["metadata"].get("generation", 0)
    return bool((workload.get("status") or {}).get("observedGeneration", 0) >= generation)


def condition(workload: JsonObject, kind: str) -> JsonObject | None:
    """Return a condition of its status, None where there is none."""
    conditions: list[JsonObject] = (workload.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == kind), None)
