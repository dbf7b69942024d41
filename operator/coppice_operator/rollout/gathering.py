"""Targets that arrive one shortly after another are told of in one status.

The whole status is written for each change of it: told of one by one, a fleet of 300 would cost the API server twice as
many writes as there are targets, of a status that is as long as the fleet.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from coppice_operator.rollout.kinds import Workload

GATHER = timedelta(seconds=3)
"""The first that has arrived waits no longer than this for others."""


def seconds_to_wait(arrived: Sequence[Workload], *, moving: int, most: int, now: datetime) -> float:
    """Return how long targets that have arrived may wait for those that will; 0 when they are told of now.

    Args:
        arrived: Workloads that have the model and are available, not told of yet.
        moving: How many others are between two models.
        most: How many may be; with half of them here there is enough to go on with.
        now: The time.
    """
    if not moving or 2 * len(arrived) >= most:
        return 0.0
    since = [workload.arrived_at() for workload in arrived]
    first = min((moment for moment in since if moment is not None), default=None)
    # A clock that is ahead of ours must hold nothing up.
    if first is None or first > now:
        return 0.0
    return max((first + GATHER - now) / timedelta(seconds=1), 0.0)
