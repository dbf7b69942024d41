"""The moments in a rollout's status after somebody has set the clock: deadlines and bake times begin anew.

A moment from before counts as the one at which the clock was set, one from the future as now. Both are stored again, so
that this is done once.
"""

from __future__ import annotations

from datetime import datetime

from coppice_api.modelrollout import CheckStatus, GitStatus, ModelRolloutStatus, TargetStatus
from coppice_operator.conditions import begun, instant, timestamp
from coppice_operator.plan import JsonObject


def anew(status: ModelRolloutStatus, now: datetime, set_at: datetime | None) -> ModelRolloutStatus:
    """Return a status whose moments can be held against the clock.

    Args:
        status: As it is stored.
        now: The time of the pass.
        set_at: When the clock was set; None leaves everything as it is.
    """
    if set_at is None:
        return status

    def moved(stamp: str | None) -> str | None:
        moment = instant(stamp)
        kept = moment is None or begun(moment, now, set_at) == moment
        return stamp if moment is None or kept else timestamp(begun(moment, now, set_at))

    def target(item: TargetStatus) -> TargetStatus:
        moments = {"updated_time": moved(item.updated_time), "unavailable_time": moved(item.unavailable_time)}
        return item.model_copy(update=moments)

    def check(item: CheckStatus) -> CheckStatus:
        return item.model_copy(update={"checked_time": moved(item.checked_time)})

    def git(item: GitStatus) -> GitStatus:
        return item.model_copy(update={"time": moved(item.time)})

    return status.model_copy(
        update={
            "wave_available_time": moved(status.wave_available_time),
            "targets": [target(item) for item in status.targets],
            "checks": [check(item) for item in status.checks],
            "git": git(status.git) if status.git is not None else None,
        }
    )


def told_anew(workload: JsonObject, now: datetime, set_at: datetime | None) -> JsonObject:
    """Return a workload whose conditions began when the clock was set, if they say that it was before."""
    if set_at is None:
        return workload

    def moved(condition: JsonObject) -> JsonObject:
        moment = instant(condition.get("lastTransitionTime"))
        return condition | ({"lastTransitionTime": timestamp(begun(moment, now, set_at))} if moment else {})

    status = workload.get("status") or {}
    return {**workload, "status": {**status, "conditions": [moved(item) for item in status.get("conditions") or ()]}}
