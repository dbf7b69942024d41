"""Two rollouts, one target: who has it.

A finished rollout has nothing: it never touches its targets again. One that has begun has what it began
with. Among those that have not, the older has it, by creation time and then by name. A rollout that is
refused before it begins (REFUSED) cannot touch anything and so stands in nobody's way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import TypeAdapter, ValidationError

from coppice_api.constants import Reason
from coppice_api.modelrollout import Target, TargetKey
from coppice_operator.plan import JsonObject
from coppice_operator.rollout.kinds import Workload
from coppice_operator.rollout.selection import chooses

FINISHED = frozenset({Reason.ROLLED_OUT, Reason.ROLLED_BACK, Reason.SUPERSEDED, Reason.HELD})
REFUSED = frozenset({Reason.UNSUPPORTED, Reason.PROVENANCE_TOO_LOW, Reason.CLAIM_TOO_WEAK, Reason.DIGEST_MISMATCH})

_TARGETS = TypeAdapter(list[Target])


def claims(
    rollout: JsonObject,
    siblings: Iterable[JsonObject],
    workloads: Mapping[TargetKey, Workload],
    targets: Iterable[TargetKey],
) -> dict[TargetKey, str]:
    """Return which of `targets` another rollout has, and that rollout's name."""
    wanted = set(targets)
    taken: dict[TargetKey, str] = {}
    for sibling in sorted(siblings, key=_age):
        if not _stands_before(sibling, rollout):
            continue
        for key in _targets(sibling, workloads) & wanted:
            taken.setdefault(key, sibling["metadata"]["name"])
    return taken


def under_way(siblings: Iterable[JsonObject], targets: Iterable[TargetKey]) -> dict[TargetKey, str]:
    """Return which of `targets` a rollout that has begun and not ended has, and that rollout's name."""
    wanted = set(targets)
    taken: dict[TargetKey, str] = {}
    for sibling in sorted(siblings, key=_age):
        if has_begun(sibling) and not _gone(sibling):
            taken |= dict.fromkeys(_targets(sibling, {}) & wanted - taken.keys(), sibling["metadata"]["name"])
    return taken


def frozen_targets(rollout: JsonObject) -> set[TargetKey]:
    """Return the targets that a rollout has in its status."""
    entries = (rollout.get("status") or {}).get("targets") or ()
    return {key for key in map(TargetKey.read, entries) if key is not None}


def has_begun(rollout: JsonObject) -> bool:
    """Return whether its targets are frozen in its status."""
    return bool((rollout.get("status") or {}).get("wave", 0))


def _stands_before(sibling: JsonObject, rollout: JsonObject) -> bool:
    if _gone(sibling):
        return False
    if has_begun(sibling):
        return not has_begun(rollout) or _age(sibling) < _age(rollout)
    return not has_begun(rollout) and _state(sibling) not in REFUSED and _age(sibling) < _age(rollout)


def _gone(rollout: JsonObject) -> bool:
    return _state(rollout) in FINISHED or bool(rollout["metadata"].get("deletionTimestamp"))


def _state(rollout: JsonObject) -> str | None:
    return (rollout.get("status") or {}).get("state")


def _age(rollout: JsonObject) -> tuple[str, str]:
    # RFC 3339 in UTC with whole seconds, as the API server writes it, sorts as text.
    return (rollout["metadata"].get("creationTimestamp") or "", rollout["metadata"]["name"])


def _targets(sibling: JsonObject, workloads: Mapping[TargetKey, Workload]) -> set[TargetKey]:
    if has_begun(sibling):
        return frozen_targets(sibling)
    try:
        targets = _TARGETS.validate_python(sibling.get("spec", {}).get("targets", []))
    except ValidationError:
        return set()
    return {key for key, workload in workloads.items() if any(chooses(target, key, workload) for target in targets)}
