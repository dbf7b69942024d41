"""Which questions are due in this pass.

A check on a target is asked every intervalSeconds: with compare Before once before the target is touched (a
baseline, again until there is one), for the targets of the current wave from one interval (or initialDelaySeconds)
after all of them became available, for those of earlier waves all the time, and once more when the bake time is
over. A query that cannot tell pods of the old model waits until they have left its window. With compare Canary the
rest of the fleet is asked at the same moments.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import ValidationError

from coppice_api.modelrollout import Analysis, Check, Comparison, TargetKey, TargetState, TargetStatus
from coppice_operator.conditions import instant
from coppice_operator.rollout.claims import FINISHED
from coppice_operator.rollout.draft import MAX_CHECK_ENTRIES, Draft
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.presets import ANY_DIGEST, promql, settling_seconds
from coppice_operator.rollout.question import Answer, Purpose, Query, QueryKey
from coppice_operator.rollout.validation import refusal

MAX_REST = 50
"""So many targets stand for the rest of a larger fleet: their names are in the query."""

__all__ = ["Answer", "Purpose", "Query", "QueryKey", "due_queries"]


def due_queries(observation: RolloutObservation, now: datetime) -> tuple[Query, ...]:
    """Return what to ask Prometheus before `plan` is called with the answers."""
    try:
        draft = Draft.of(observation, now)
    except ValidationError:
        return ()
    analysis = draft.spec.analysis
    if analysis is None or not _asks(draft):
        return ()
    return tuple(
        _query(draft, analysis, check, target, purpose)
        for target in watched(draft)
        for check in analysis.checks
        for purpose in Purpose
        if (due := due_at(draft, check, target, purpose)) is not None and due <= now
    )


def watched(draft: Draft) -> list[TargetStatus]:
    """Return the targets whose checks count: those of the current wave, then updated ones of earlier waves.

    status.checks is bounded, so of a very large fleet only the first are watched (with three checks, 170).
    """
    return [target for target in counted(draft) if target.cluster not in draft.down]


def counted(draft: Draft) -> list[TargetStatus]:
    """Return the same with those that are held: what is known of them is kept."""
    analysis = draft.spec.analysis
    if analysis is None:
        return []
    members = [target for target in draft.targets if target.wave == draft.wave]
    earlier = [
        target
        for target in reversed(draft.targets)
        if (target.wave or 0) < draft.wave and target.state is TargetState.UPDATED
    ]
    return [*members, *earlier][: MAX_CHECK_ENTRIES // len(analysis.checks)]


def bake_end(draft: Draft) -> datetime | None:
    """Return when the current wave's bake time is over, or None while it has not begun."""
    available = instant(draft.wave_available_time)
    if available is None:
        return None
    waves = draft.spec.strategy.waves
    # A last wave of all may have been added to the list; it has no pause.
    pause = waves[draft.wave - 1].pause_seconds if draft.wave <= len(waves) else 0
    return available + timedelta(seconds=pause)


def due_at(draft: Draft, check: Check, target: TargetStatus, purpose: Purpose) -> datetime | None:
    """Return when a question is due, or None when it is not to be asked as things stand."""
    analysis = draft.spec.analysis
    if analysis is None:
        return None
    interval = timedelta(seconds=analysis.interval_seconds)
    entry = draft.checks.get((check.name, target.key))
    asked = instant(entry.checked_time) if entry else None
    if purpose is Purpose.BASELINE:
        if not needs_baseline(draft, check, target):
            return None
        return asked + interval if asked else draft.now
    if target.state is not TargetState.UPDATED or (purpose is Purpose.REST and not rest_of(draft, check, target)):
        return None
    start = draft.now
    if target.wave == draft.wave:
        available = instant(draft.wave_available_time)
        if available is None:
            return None
        delay = check.initial_delay_seconds
        start = available + max(
            interval if delay is None else timedelta(seconds=delay),
            timedelta(seconds=settling_seconds(check, analysis.window_seconds)),
        )
    due = asked + interval if asked else start
    end = bake_end(draft)
    if end is not None and asked is not None and asked < end:
        due = min(due, end)
    return max(due, start) if target.wave == draft.wave else due


def needs_baseline(draft: Draft, check: Check, target: TargetStatus) -> bool:
    """Return whether a target of the current wave still lacks a check's value from before it is touched."""
    entry = draft.checks.get((check.name, target.key))
    return (
        check.compare is Comparison.BEFORE
        and target.state is TargetState.PENDING
        and target.wave == draft.wave
        and (entry is None or entry.baseline is None)
    )


def rest_of(draft: Draft, check: Check, target: TargetStatus) -> list[TargetKey]:
    """Return the targets that a target is compared with: untouched ones of its model, evenly chosen if they are many.

    Those of another model or in another cluster may run on other hardware and say nothing about this one.
    """
    if check.compare is not Comparison.CANARY:
        return []
    untouched = (TargetState.PENDING, TargetState.BLOCKED)
    keys = [
        one.key
        for one in draft.targets
        if one.state in untouched and (one.model, one.cluster) == (target.model, target.cluster)
    ]
    return keys[:: -(-len(keys) // MAX_REST) or 1]


def canary_fault(draft: Draft) -> str | None:
    """Return why a check could never compare a target with others of its model, or None."""
    analysis = draft.spec.analysis
    check = next((one for one in analysis.checks if one.compare is Comparison.CANARY), None) if analysis else None
    if check is None:
        return None
    waves: dict[tuple[str, str], set[int | None]] = {}
    for target in draft.targets:
        waves.setdefault((target.model or "", target.cluster or ""), set()).add(target.wave)
    alone = sorted(kin for kin, numbers in waves.items() if len(numbers) == 1)
    if not alone:
        return None
    model, cluster = alone[0]
    where = f" in cluster {cluster}" if cluster else ""
    return (
        f"checks[{check.name}].compare is Canary, but one wave takes every target of model {model}{where}, so there is "
        "no rest to compare with: divide them between waves, or compare with Before"
    )


def _asks(draft: Draft) -> bool:
    return (
        draft.wave > 0
        and draft.failure_reason is None
        and not draft.spec.paused
        and not draft.spec.withdrawn
        and draft.stored.state not in FINISHED
        and refusal(draft.spec) is None
    )


def _query(draft: Draft, analysis: Analysis, check: Check, target: TargetStatus, purpose: Purpose) -> Query:
    digest = draft.model_of(target).sha256 if purpose is Purpose.CURRENT else ANY_DIGEST
    targets = rest_of(draft, check, target) if purpose is Purpose.REST else [target.key]
    text = promql(
        check,
        namespace=draft.namespace,
        targets=targets,
        available=sum(draft.workloads[key].available_pods() for key in targets if key in draft.workloads),
        digest=digest,
        window_seconds=analysis.window_seconds,
        label=analysis.cluster_label,
    )
    own = (entry.prometheus for entry in analysis.clusters if entry.cluster == target.cluster)
    prometheus = next(own, analysis.prometheus)
    secret = prometheus.credentials_secret_name
    return Query(
        QueryKey(check.name, target.key, purpose),
        prometheus.address.rstrip("/"),
        text,
        (draft.namespace, secret) if secret else None,
        prometheus.timeout_seconds,
    )
