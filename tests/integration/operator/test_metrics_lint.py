"""Prometheus' own linter on everything the operator shows."""

from __future__ import annotations

import asyncio

from coppice_api.constants import Reason
from coppice_operator.plan import Plan
from tests import programs
from tests.unit.operator_core.test_metrics import FINISHED, World, prunejob, rollout, stalled


def test_promtool_has_nothing_to_say() -> None:
    world = World(
        prunejob(state="TargetMet", variants=[FINISHED]),
        rollout(state="RollingOut", wave=1, waves=2, targets=[{"state": "Updated"}], checks=[{"state": "NoData"}]),
    )
    metrics = world.metrics
    metrics.saw_event("Job")
    metrics.missed("Job", 1)
    metrics.api_requests.labels("GET", "200").inc()
    metrics.reconcile_seconds.labels("PruneJob", "ok").observe(0.01)
    metrics.carried_out("PruneJob", prunejob(), Plan(stalled(Reason.RUN_FAILED)))
    assert programs.promtool(asyncio.run(metrics.text()).decode()) == ""
