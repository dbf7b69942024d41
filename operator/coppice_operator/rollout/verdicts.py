"""Judging answers: a number against its range, silence by its kind and by onNoData, failures against limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from coppice_api.constants import Reason
from coppice_api.modelrollout import (
    Check,
    CheckState,
    CheckStatus,
    Comparison,
    OnNoData,
    TargetKey,
    TargetState,
    TargetStatus,
    ThresholdRange,
)
from coppice_operator.conditions import instant
from coppice_operator.rollout.analysis import bake_end, counted, needs_baseline, rest_of, watched
from coppice_operator.rollout.draft import MAX_MESSAGE_LENGTH, Draft, stamp
from coppice_operator.rollout.question import Answer, Purpose, QueryKey, Silence
from coppice_operator.rollout.summaries import BASELINE_TAKEN, judged

HOLDS = (Reason.CHECK_ERROR, Reason.NO_DATA, Reason.INCONCLUSIVE)
_FRESH = {"failures": 0, "passes": 0, "inconclusives": 0}
_STATES = {
    Silence.EMPTY: CheckState.NO_DATA,
    Silence.ERROR: CheckState.ERROR,
    Silence.REFUSED: CheckState.REFUSED,
}


@dataclass(frozen=True)
class Failure:
    """Why a rollout that has begun cannot go on."""

    reason: Reason
    message: str


def record_answers(draft: Draft) -> Failure | None:
    """Write this pass's answers into the draft's checks; return a failure when a limit is passed."""
    analysis = draft.spec.analysis
    if analysis is None:
        draft.checks = {}
        return None
    targets = watched(draft)
    kept = {(check.name, target.key) for check in analysis.checks for target in counted(draft)}
    draft.checks = {key: entry for key, entry in draft.checks.items() if key in kept}
    for check in analysis.checks:
        for target in targets:
            _record(draft, check, target)
    return next(filter(None, (_limit(draft, check) for check in analysis.checks)), None)


def without_baseline(draft: Draft) -> set[TargetKey]:
    """Return the pending targets that still have to wait for a value from before they are touched."""
    analysis = draft.spec.analysis
    if analysis is None:
        return set()
    return {
        target.key
        for target in watched(draft)
        for check in analysis.checks
        if needs_baseline(draft, check, target)
        # With onNoData Pass one try is enough.
        and not _tolerated(check, draft.checks.get((check.name, target.key)))
    }


def accepted(draft: Draft) -> bool:
    """Return whether every check holds on every watched target, with a pass in this wave and one after its bake."""
    analysis = draft.spec.analysis
    end = bake_end(draft)
    if analysis is None or end is None:
        return end is not None
    return all(
        _accepts(check, draft.checks.get((check.name, target.key)), end)
        for target in watched(draft)
        for check in analysis.checks
    )


def holding(draft: Draft) -> tuple[Reason, list[CheckStatus]] | None:
    """Return why checks hold the rollout although none failed, and which; what a person has to mend comes first."""
    analysis = draft.spec.analysis
    if analysis is None:
        return None
    checks = {check.name: check for check in analysis.checks}
    targets = {target.key: target for target in watched(draft)}
    found: dict[Reason, list[CheckStatus]] = {}
    for entry in draft.checks.values():
        check, target = checks.get(entry.name), targets.get(entry.target_key)
        if check and target and _counts(draft, check, target, entry) and (reason := _holds(draft, check, entry)):
            found.setdefault(reason, []).append(entry)
    return next(((reason, found[reason]) for reason in HOLDS if reason in found), None)


def _holds(draft: Draft, check: Check, entry: CheckStatus) -> Reason | None:
    if entry.state is CheckState.REFUSED:
        return Reason.CHECK_ERROR
    if entry.state is CheckState.INCONCLUSIVE:
        total = sum(other.inconclusives for other in draft.checks.values() if other.name == check.name)
        return Reason.INCONCLUSIVE if total > check.inconclusive_limit else None
    silent = entry.state in (CheckState.NO_DATA, CheckState.ERROR)
    return Reason.NO_DATA if silent and not _tolerated(check, entry) else None


def new_wave(draft: Draft) -> None:
    """Forget this wave's counts; keep baselines and last values."""
    draft.checks = {key: entry.model_copy(update=_FRESH) for key, entry in draft.checks.items()}


def _counts(draft: Draft, check: Check, target: TargetStatus, entry: CheckStatus) -> bool:
    if target.state is TargetState.PENDING:
        return needs_baseline(draft, check, target)
    return judged(entry)


def _record(draft: Draft, check: Check, target: TargetStatus) -> None:
    key = (check.name, target.key)
    entry = draft.checks.get(key) or CheckStatus(
        name=check.name,
        target=target.name,
        target_kind=target.kind,
        target_cluster=target.cluster,
        state=CheckState.NO_DATA,
    )
    if needs_baseline(draft, check, target):
        answer = draft.observation.answers.get(QueryKey(*key, Purpose.BASELINE))
        if answer is not None:
            draft.checks[key] = _baseline(check, entry, answer, stamp(draft))
        return
    answer = draft.observation.answers.get(QueryKey(*key, Purpose.CURRENT))
    if answer is None or target.state is not TargetState.UPDATED:
        return
    if check.compare is Comparison.CANARY:
        rest = draft.observation.answers.get(QueryKey(*key, Purpose.REST))
        if rest is None and not rest_of(draft, check, target):
            # The last wave leaves nothing to compare with.
            rest = _last_of_the_rest(draft, check, target)
        entry = _with_rest(entry, rest)
        if entry.baseline is None:
            silence = rest or Answer(None, "none of it is left to compare with")
            draft.checks[key] = _silent(check, entry, silence, "the rest of the fleet", stamp(draft))
            return
    draft.checks[key] = _current(check, entry, answer, stamp(draft))


def _with_rest(entry: CheckStatus, rest: Answer | None) -> CheckStatus:
    value = _finite(rest.value) if rest else None
    return entry.model_copy(update={"baseline": None if value is None else f"{value:.12g}"})


def _last_of_the_rest(draft: Draft, check: Check, target: TargetStatus) -> Answer | None:
    kin = {one.key: (one.model, one.cluster) for one in draft.targets}
    told = [
        entry
        for entry in draft.checks.values()
        if entry.name == check.name and entry.baseline and kin.get(entry.target_key) == (target.model, target.cluster)
    ]
    newest = max(told, key=lambda entry: (entry.checked_time or "", entry.target_key), default=None)
    return Answer(float(newest.baseline)) if newest and newest.baseline else None


def _baseline(check: Check, entry: CheckStatus, answer: Answer, now: str) -> CheckStatus:
    value = _finite(answer.value)
    if value is None:
        return _silent(check, entry, answer, "no baseline", now)
    return entry.model_copy(
        update={"baseline": f"{value:.12g}", "message": BASELINE_TAKEN, "checked_time": now, "errors": 0}
    )


def _current(check: Check, entry: CheckStatus, answer: Answer, now: str) -> CheckStatus:
    value = _finite(answer.value)
    if value is None:
        return _silent(check, entry, answer, "no data", now)
    shown = f"{value:.6g}"
    if check.compare is not Comparison.ABSOLUTE:
        baseline = float(entry.baseline) if entry.baseline else None
        if not baseline:
            what = "there is none" if baseline is None else "it is 0"
            other = "the value before" if check.compare is Comparison.BEFORE else "the rest of the fleet"
            return _judged(check, entry, CheckState.NO_DATA, shown, f"no ratio to {other}: {what}", now)
        ratio = value / baseline
        state, verdict = _verdict(check, ratio)
        return _judged(check, entry, state, shown, f"{shown} / {entry.baseline} = {ratio:.6g} {verdict}", now)
    state, verdict = _verdict(check, value)
    return _judged(check, entry, state, shown, f"{shown} {verdict}", now)


def _silent(check: Check, entry: CheckStatus, answer: Answer, what: str, now: str) -> CheckStatus:
    """Judge an answer without a number; what is no answer at all is waited out a few times first."""
    state = _STATES[answer.silence]
    errors = entry.errors + 1 if state is CheckState.ERROR else 0
    entry = entry.model_copy(update={"errors": errors})
    return _judged(check, entry, state, None, f"{what}: {answer.error or 'no number'}", now)


def _judged(
    check: Check, entry: CheckStatus, state: CheckState, value: str | None, message: str, now: str
) -> CheckStatus:
    if state is not CheckState.ERROR:
        entry = entry.model_copy(update={"errors": 0})
    silent = _counts_as_silent(check, state, entry.errors)
    good = state is CheckState.PASSING or (silent and check.on_no_data is OnNoData.PASS)
    bad = state is CheckState.FAILING or (silent and check.on_no_data is OnNoData.FAIL)
    return entry.model_copy(
        update={
            "state": state,
            "value": value,
            "message": message[:MAX_MESSAGE_LENGTH],
            "checked_time": now,
            "passes": entry.passes + good,
            "failures": entry.failures + bad,
            "inconclusives": entry.inconclusives + (state is CheckState.INCONCLUSIVE),
        }
    )


def _counts_as_silent(check: Check, state: CheckState, errors: int) -> bool:
    return state is CheckState.NO_DATA or (state is CheckState.ERROR and errors > check.consecutive_error_limit)


def _tolerated(check: Check, entry: CheckStatus | None) -> bool:
    """Return whether a silence is one that onNoData lets pass."""
    return (
        entry is not None and check.on_no_data is OnNoData.PASS and _counts_as_silent(check, entry.state, entry.errors)
    )


def _verdict(check: Check, value: float) -> tuple[CheckState, str]:
    fault = _fault(check.threshold_range, value)
    if fault is None:
        return CheckState.PASSING, "is in range"
    if check.inconclusive_range is not None and _fault(check.inconclusive_range, value) is None:
        return CheckState.INCONCLUSIVE, f"{fault}, but not by enough to fail"
    return CheckState.FAILING, fault


def _fault(limits: ThresholdRange, value: float) -> str | None:
    if limits.min is not None and value < float(limits.min):
        return f"is below the minimum {limits.min}"
    if limits.max is not None and value > float(limits.max):
        return f"is above the maximum {limits.max}"
    return None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _limit(draft: Draft, check: Check) -> Failure | None:
    """Failures count together over all targets of the wave: one bad target is a bad wave."""
    entries = [entry for entry in draft.checks.values() if entry.name == check.name and entry.failures]
    failures = sum(entry.failures for entry in entries)
    if failures <= check.failure_limit:
        return None
    last = max(entries, key=lambda entry: (entry.checked_time or "", entry.failures, entry.target_key))
    return Failure(
        Reason.ANALYSIS_FAILED,
        f"check {check.name} failed on {last.target_key.short}: {last.message} "
        f"({failures} failed, {check.failure_limit} forgiven)",
    )


def _accepts(check: Check, entry: CheckStatus | None, end: datetime) -> bool:
    if entry is None or entry.passes == 0:
        return False
    asked = instant(entry.checked_time)
    good = entry.state is CheckState.PASSING or _tolerated(check, entry)
    return good and asked is not None and asked >= end
