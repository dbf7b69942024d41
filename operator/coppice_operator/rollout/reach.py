"""Other clusters: which of them a rollout needs, and what becomes of their targets while they are down.

down: held, with the reason; nothing there is asked, written, or given up for being late
back: what was held goes on in the wave that is under way now, its deadlines begun anew
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from coppice_api.constants import Reason
from coppice_api.modelrollout import ClusterStatus, TargetKey, TargetState, TargetStatus
from coppice_operator.clusters.view import ClusterView, Kinds
from coppice_operator.conditions import timestamp
from coppice_operator.plan import EventType, JsonObject
from coppice_operator.rollout.claims import FINISHED
from coppice_operator.rollout.kinds import KINDS

if TYPE_CHECKING:
    from coppice_operator.rollout.draft import Draft

_SETTLED = frozenset({TargetState.ROLLED_BACK, TargetState.BLOCKED})
"""Nothing more is done with these, and their messages say why."""
_MAX_MESSAGE_LENGTH = 1024


def needed(rollout: JsonObject) -> dict[str, Kinds]:
    """Return which other clusters a rollout, as it is stored, needs now, and which kinds there."""
    spec, status = rollout.get("spec") or {}, rollout.get("status") or {}
    if rollout.get("metadata", {}).get("deletionTimestamp"):
        return {}
    state = status.get("state")
    if state in FINISHED and not (spec.get("withdrawn") and state != Reason.ROLLED_BACK):
        return {}
    found: dict[str, set[tuple[str, str]]] = {}
    for entry in (*(spec.get("targets") or ()), *(status.get("targets") or ())):
        # Entries of spec.targets may have no name.
        key = TargetKey.read(entry)
        if key is not None and key.cluster:
            kinds = found.setdefault(key.cluster, set())
            # With what is made for targets of the kind.
            kinds |= {(KINDS[kind].api_version, str(kind)) for kind in (key.kind, *KINDS[key.kind].made_of)}
    return {name: frozenset(kinds) for name, kinds in found.items()}


def down_of(named: Iterable[str], views: Mapping[str, ClusterView]) -> dict[str | None, str]:
    """Return the clusters with which nothing can be done now, and why."""
    unseen = ClusterView(fault="nobody has looked at it yet")
    faults = {name: views.get(name, unseen).fault for name in sorted(set(named))}
    return {name: f"cluster {name}: {fault}" for name, fault in faults.items() if fault is not None}


def settle(draft: Draft) -> None:
    """Hold the targets of clusters that are down, and take up those of clusters that are back."""
    before = {entry.name: entry for entry in draft.stored.clusters}
    draft.clusters = [_status(draft, name, before.get(name)) for name in draft.named_clusters]
    for entry in draft.clusters:
        was = before.get(entry.name)
        if entry.reachable and was is not None and not was.reachable:
            draft.announce(EventType.NORMAL, Reason.ROLLING_OUT, f"cluster {entry.name} is back")
            _take_up(draft, entry.name)
        elif not entry.reachable and (was is None or was.reachable):
            draft.announce(EventType.WARNING, Reason.CLUSTER_UNREACHABLE, entry.message or "")
    draft.change_targets(
        lambda target: (
            target.model_copy(update={"message": draft.down[target.cluster]}) if held(draft, target) else target
        )
    )


def held(draft: Draft, target: TargetStatus) -> bool:
    """Return whether a target waits for its cluster."""
    return target.cluster in draft.down and target.state not in _SETTLED


def told(draft: Draft, message: str) -> str:
    """Return a sentence with what is held added to it."""
    if not draft.down:
        return message
    count = sum(held(draft, target) for target in draft.targets)
    faults = list(draft.down.values())
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    what = f"{count} target{'s are' if count > 1 else ' is'} held: " if count else ""
    return f"{message}; {what}{faults[0]}{more}"[:_MAX_MESSAGE_LENGTH]


def _status(draft: Draft, name: str, was: ClusterStatus | None) -> ClusterStatus:
    fault = draft.down.get(name)
    reachable = fault is None
    since = was.changed_time if was is not None and was.reachable == reachable else timestamp(draft.now)
    message = fault[:_MAX_MESSAGE_LENGTH] if fault else None
    return ClusterStatus(name=name, reachable=reachable, message=message, changed_time=since)


def _take_up(draft: Draft, cluster: str) -> None:
    forward = draft.failure_reason is None
    late = (TargetState.PENDING, TargetState.UPDATING)

    def taken_up(target: TargetStatus) -> TargetStatus:
        if target.cluster != cluster or target.state in _SETTLED:
            return target
        change: dict[str, object] = {"message": None}
        if target.state in (TargetState.UPDATING, TargetState.ROLLING_BACK):
            # The time in which nobody could see it is not its own.
            change["updated_time"] = timestamp(draft.now)
        if forward and target.state in late and 0 < (target.wave or 0) < draft.wave:
            change["wave"] = draft.wave
        return target.model_copy(update=change)

    draft.change_targets(taken_up)
    if forward and any(
        target.cluster == cluster and target.state in late and target.wave == draft.wave for target in draft.targets
    ):
        # The bake time of a wave counts from when all of it is available.
        draft.wave_available_time = None
