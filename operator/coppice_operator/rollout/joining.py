"""Workloads that begin to match while a rollout is under way join its last wave."""

from __future__ import annotations

from coppice_api.constants import Reason
from coppice_operator.plan import EventType
from coppice_operator.rollout.draft import Draft
from coppice_operator.rollout.git import key_fault
from coppice_operator.rollout.selection import MAX_TARGETS, SelectionError


def join(draft: Draft) -> None:
    """Append what spec.targets choose now and did not when the first wave began; nothing where that is in doubt."""
    try:
        chosen = draft.chosen()
    except SelectionError:
        # What is wrong with a target that was there before is found where that target is observed.
        return
    known = {target.key for target in draft.targets}
    joined = [one.in_wave(draft.waves) for one in chosen if one.key not in known]
    before = draft.targets
    if not joined or len(before) + len(joined) > MAX_TARGETS:
        return
    draft.targets = [*before, *joined]
    if key_fault(draft):
        draft.targets = before
        return
    if draft.wave == draft.waves:
        # The bake time of a wave counts from when all of it is available.
        draft.wave_available_time = None
    names = ", ".join(target.key.short for target in joined[:5]) + (", ..." if len(joined) > 5 else "")
    draft.announce(EventType.NORMAL, Reason.ROLLING_OUT, f"new targets join wave {draft.waves}: {names}")
