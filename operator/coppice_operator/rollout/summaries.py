"""status.checkSummaries: where each check stands over all targets, for a person and for kubectl.

status.checks has every check on every watched target, which of a large fleet is more than anybody reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coppice_api.modelrollout import Check, CheckState, CheckStatus, CheckSummary

BASELINE_TAKEN = "baseline taken, not asked since"
"""Message of an entry of status.checks that has no verdict yet."""
SEVERITY = (
    CheckState.PASSING,
    CheckState.INCONCLUSIVE,
    CheckState.NO_DATA,
    CheckState.ERROR,
    CheckState.REFUSED,
    CheckState.FAILING,
)
"""From what nobody has to look at to what turns a rollout round."""


def summaries(checks: Sequence[Check], entries: Iterable[CheckStatus]) -> list[CheckSummary]:
    """Return one summary a check that was judged, in the order of the spec.

    The target of the worst verdict speaks for the others; of several, the one that was judged last.
    """
    by_check: dict[str, list[CheckStatus]] = {}
    for entry in entries:
        if judged(entry):
            by_check.setdefault(entry.name, []).append(entry)
    return [_summary(by_check[check.name]) for check in checks if check.name in by_check]


def judged(entry: CheckStatus) -> bool:
    """Return whether there is a verdict yet: an entry that only holds a baseline has none."""
    return entry.message != BASELINE_TAKEN


def _summary(entries: Sequence[CheckStatus]) -> CheckSummary:
    worst = max(entries, key=lambda entry: (SEVERITY.index(entry.state), entry.checked_time or "", entry.target_key))
    return CheckSummary(
        name=worst.name,
        state=worst.state,
        target=worst.target,
        target_kind=worst.target_kind,
        target_cluster=worst.target_cluster,
        value=worst.value,
        baseline=worst.baseline,
        message=worst.message,
        checked_time=worst.checked_time,
        targets=len(entries),
        passing_targets=sum(entry.state is CheckState.PASSING for entry in entries),
        failures=sum(entry.failures for entry in entries),
    )
