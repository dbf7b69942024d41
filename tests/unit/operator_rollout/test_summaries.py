"""status.checkSummaries: the worst verdict of each check and whose it is."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coppice_api.modelrollout import Check, CheckState, CheckStatus
from coppice_operator.rollout.analysis import Answer, Purpose, Query
from coppice_operator.rollout.summaries import BASELINE_TAKEN, SEVERITY, summaries
from tests.unit.operator_rollout.test_forward import ANALYSIS, good, simulation

NAMES = ("accuracy", "energy", "errors")
CHECKS = [Check.model_validate({"name": name, "query": "up", "thresholdRange": {"max": "1"}}) for name in NAMES]


def entry(target: str, state: CheckState, name: str = "accuracy", **fields: Any) -> CheckStatus:
    return CheckStatus(name=name, target=target, state=state, **fields)


def test_the_worst_target_speaks_and_the_last_of_several() -> None:
    (summary,) = summaries(
        CHECKS,
        [
            entry("a", CheckState.PASSING, value="0.99", checked_time="2026-11-01T12:00:09Z"),
            entry("b", CheckState.FAILING, value="0.5", checked_time="2026-11-01T12:00:01Z", failures=2),
            entry("c", CheckState.FAILING, value="0.6", checked_time="2026-11-01T12:00:02Z", failures=1),
            entry("d", CheckState.NO_DATA),
        ],
    )
    assert (summary.target, summary.value, summary.state) == ("c", "0.6", CheckState.FAILING)
    assert (summary.targets, summary.passing_targets, summary.failures) == (4, 1, 3)


@given(
    st.lists(
        st.builds(
            entry,
            st.sampled_from([f"web-{number:03}" for number in range(170)]),
            st.sampled_from(CheckState),
            st.sampled_from([*NAMES, "removed"]),
            message=st.sampled_from([None, BASELINE_TAKEN, "0.5 is in range"]),
        )
    )
)
def test_there_is_at_most_one_of_each_check_of_the_spec(entries: list[CheckStatus]) -> None:
    made = summaries(CHECKS, entries)
    names = [summary.name for summary in made]
    assert names == [name for name in NAMES if name in names]
    judged = [item for item in entries if item.message != BASELINE_TAKEN]
    assert set(names) == {item.name for item in judged} & set(NAMES)
    for summary in made:
        states = [item.state for item in judged if item.name == summary.name]
        assert SEVERITY.index(summary.state) == max(map(SEVERITY.index, states))


def test_every_state_has_its_place() -> None:
    assert set(SEVERITY) == set(CheckState)


def test_a_rollout_keeps_what_decided_it_after_its_end() -> None:
    def answer(query: Query) -> Answer:
        return Answer(0.5) if query.key.check == "accuracy" else good(query)

    run = simulation(spec={"analysis": ANALYSIS}, answer=answer).run()
    assert run.state == "RolledBack"
    by_name = {item["name"]: item for item in run.status["checkSummaries"]}
    assert (by_name["accuracy"]["state"], by_name["accuracy"]["value"]) == ("Failing", "0.5")
    assert by_name["accuracy"]["target"] == "digits-a"
    assert (by_name["energy"]["state"], by_name["energy"]["baseline"]) == ("Passing", "1")
    del run.rollout["spec"]["analysis"]
    assert run.stable()


def test_checks_that_are_taken_out_of_the_spec_are_told_no_more() -> None:
    run = simulation(spec={"analysis": copy.deepcopy(ANALYSIS)}, answer=good)
    run.run(until=lambda: len(run.status.get("checkSummaries", [])) == 3)
    run.rollout["spec"]["analysis"]["checks"].pop()
    run.step()
    assert [item["name"] for item in run.status["checkSummaries"]] == ["energy", "accuracy"]
    del run.rollout["spec"]["analysis"]
    run.step()
    assert run.status["checkSummaries"] == []


def test_a_baseline_alone_is_no_verdict() -> None:
    run = simulation(spec={"analysis": ANALYSIS}, answer=good)
    run.run(until=lambda: bool(run.status.get("checks")))
    assert {query.key.purpose for query in run.queries} == {Purpose.BASELINE}
    assert run.status.get("checkSummaries", []) == []
