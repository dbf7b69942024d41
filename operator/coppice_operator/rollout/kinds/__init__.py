"""Kinds that a rollout can change, one module each: how the model is read and written, and what healthy means.

Belongs here: everything that differs from kind to kind. Does not belong here: waves, limits and deadlines, which are
the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from coppice_api.modelrollout import TargetKey, TargetKind
from coppice_operator.plan import JsonObject
from coppice_operator.rollout.kinds.daemon_set import DaemonSet
from coppice_operator.rollout.kinds.deployment import Deployment
from coppice_operator.rollout.kinds.inference_service import InferenceService, service_of
from coppice_operator.rollout.kinds.stateful_set import StatefulSet
from coppice_operator.rollout.kinds.workload import FieldUnreadableError, Where, Workload

__all__ = ["KINDS", "FieldUnreadableError", "Where", "Workload", "by_key"]

KINDS: Mapping[TargetKind, type[Workload]] = {
    TargetKind.DEPLOYMENT: Deployment,
    TargetKind.STATEFUL_SET: StatefulSet,
    TargetKind.DAEMON_SET: DaemonSet,
    TargetKind.INFERENCE_SERVICE: InferenceService,
}


def by_key(
    bodies: Iterable[JsonObject],
    told: Callable[[JsonObject], JsonObject] = lambda body: body,
    cluster: str | None = None,
) -> dict[TargetKey, Workload]:
    """Return the workloads of a cluster that are not being deleted.

    Args:
        bodies: As the API server gives them, `kind` filled in.
        told: What their conditions are to be taken for; as they are, when not named.
        cluster: None for the operator's own.
    """
    there = [
        (key, told(body))
        for body in bodies
        if (key := _key_of(body, cluster)) is not None and not body["metadata"].get("deletionTimestamp")
    ]
    parts: dict[str, list[JsonObject]] = {}
    for key, body in there:
        if key.kind is TargetKind.DEPLOYMENT and (service := service_of(body)) is not None:
            parts.setdefault(service, []).append(body)
    return {
        key: KINDS[key.kind](
            key, body, tuple(parts.get(key.name, ())) if key.kind is TargetKind.INFERENCE_SERVICE else ()
        )
        for key, body in there
    }


def _key_of(body: JsonObject, cluster: str | None) -> TargetKey | None:
    """Return which target of a cluster a body may be, None if its kind is none of them."""
    kind = body.get("kind")
    return TargetKey.read({"kind": kind, "name": body["metadata"]["name"], "cluster": cluster}) if kind else None
