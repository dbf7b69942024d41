"""Conditions: transition times move only with the status."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from coppice_api.base import ConditionStatus
from coppice_operator.conditions import Condition, conditions, instant, timestamp
from tests.unit.operator_rollout.simulator import START

LATER = START + timedelta(hours=1)


def test_the_transition_time_stays_while_the_status_does() -> None:
    first = conditions([], [Condition("Ready", ConditionStatus.FALSE, "Waiting", "one", 1)], START)
    second = conditions(first, [Condition("Ready", ConditionStatus.FALSE, "NoData", "two", 2)], LATER)
    assert second == [
        {
            "type": "Ready",
            "status": "False",
            "observedGeneration": 2,
            "lastTransitionTime": "2026-11-01T12:00:00Z",
            "reason": "NoData",
            "message": "two",
        }
    ]
    third = conditions(second, [Condition("Ready", ConditionStatus.TRUE, "RolledOut")], LATER)
    assert third[0]["lastTransitionTime"] == "2026-11-01T13:00:00Z"


def test_malformed_conditions_count_as_absent() -> None:
    wanted = [Condition("Ready", ConditionStatus.TRUE, "RolledOut")]
    malformed: list[Any] = [[{}], ["Ready"], [{"type": "Ready", "status": "True"}]]
    for previous in malformed:
        assert conditions(previous, wanted, START)[0]["lastTransitionTime"] == timestamp(START)


def test_timestamps_come_back_and_nonsense_does_not() -> None:
    assert instant(timestamp(START)) == START
    assert instant("2026-11-01T12:00:00") == START
    assert instant("2026-11-01T12:00:00.5+00:00") == START + timedelta(seconds=0.5)
    assert instant(None) is None and instant("soon") is None
