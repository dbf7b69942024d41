"""Which questions are asked when, how answers are judged, and what silence does."""

from __future__ import annotations

import copy
import re
from datetime import timedelta
from typing import Any

import pytest

from coppice_api.modelrollout import Check, TargetKey
from coppice_operator.rollout.analysis import MAX_REST, Answer, Purpose, Query, due_queries
from coppice_operator.rollout.draft import MAX_CHECK_ENTRIES
from coppice_operator.rollout.presets import ANY_DIGEST, promql
from coppice_operator.rollout.question import Silence
from tests.builders import DIGEST
from tests.unit.operator_rollout.simulator import DENSE, Simulation, condition, deployment
from tests.unit.operator_rollout.test_forward import ANALYSIS, good, simulation


def one_check(**check: Any) -> dict[str, Any]:
    """ANALYSIS with one check."""
    defaults = {"name": "accuracy", "preset": "accuracy", "thresholdRange": {"min": "0.97"}}
    return {**ANALYSIS, "checks": [{**defaults, **check}]}


def before(**check: Any) -> dict[str, Any]:
    return one_check(
        **{
            "name": "energy",
            "preset": "energyPerInference",
            "compare": "Before",
            "thresholdRange": {"max": "0.9"},
            **check,
        }
    )


def canary(**check: Any) -> dict[str, Any]:
    return before(**{"compare": "Canary", **check})


def silence(query: Query) -> Answer:
    return Answer(None, "the query gives no series")


def entry(run: Simulation, name: str, target: str = "digits-a") -> dict[str, Any]:
    return next(item for item in run.status["checks"] if (item["name"], item["target"]) == (name, target))


class TestWhen:
    def test_baselines_are_asked_before_anything_is_touched(self) -> None:
        run = simulation(spec={"analysis": ANALYSIS}, answer=good)
        run.step()
        assert run.status["wave"] == 1 and not run.queries
        run.step()
        assert [(query.key.check, query.key.target.name, query.key.purpose) for query in run.queries] == [
            ("energy", "digits-a", Purpose.BASELINE)
        ]
        assert not run.actions and run.status["targets"][0]["state"] == "Updating"
        assert entry(run, "energy")["baseline"] == "1"

    def test_the_first_question_about_a_wave_comes_one_interval_after_it_is_available(self) -> None:
        run = simulation(spec={"analysis": ANALYSIS}, answer=good)
        run.run(until=lambda: "waveAvailableTime" in run.status)
        asked = len(run.queries)
        available = run.now - timedelta(seconds=1)
        run.run(until=lambda: len(run.queries) > asked)
        assert timedelta(seconds=4) <= run.now - available <= timedelta(seconds=7)
        assert {query.key.purpose for query in run.queries[asked:]} == {Purpose.CURRENT}

    def test_checks_are_asked_every_interval_and_not_more_often(self) -> None:
        run = simulation(spec={"analysis": one_check(), "strategy.waves": [{"targets": 3, "pauseSeconds": 60}]})
        run.run()
        # Bake of 60 s, every 5 s from the fifth second on, three targets.
        assert len(run.queries) == pytest.approx(3 * 12, abs=3)

    def test_a_wave_without_pause_still_needs_a_pass_of_every_check(self) -> None:
        run = simulation(spec={"analysis": one_check(), "strategy.waves": [{"targets": "100%"}]}, answer=good).run()
        assert {item["passes"] for item in run.status["checks"]} == {1}

    def test_targets_of_earlier_waves_are_still_watched(self) -> None:
        run = simulation(spec={"analysis": ANALYSIS}, answer=good)
        run.run(until=lambda: run.status["wave"] == 2)
        asked = len(run.queries)
        run.run()
        assert "digits-a" in {query.key.target.name for query in run.queries[asked:]}

    def test_a_failure_of_an_earlier_wave_fails_a_later_one(self) -> None:
        run = simulation(spec={"analysis": ANALYSIS}, answer=good)
        run.run(until=lambda: run.status["wave"] == 2)
        run.answer = lambda query: Answer(0.1) if query.key.target.name == "digits-a" else good(query)
        assert run.run().state == "RolledBack"

    def test_nothing_is_asked_of_a_finished_a_failed_or_a_paused_rollout(self) -> None:
        run = simulation(spec={"analysis": ANALYSIS}, answer=good)
        run.run(until=lambda: run.state == "Waiting")
        later = run.now + timedelta(hours=1)
        assert due_queries(run.observe(), later)
        for change in ({"state": "RolledOut"}, {"failureReason": "AnalysisFailed"}):
            document = copy.deepcopy(run.rollout)
            document["status"].update(change)
            assert due_queries(Simulation(document, list(run.fleet.values())).observe(), later) == ()
        run.rollout["spec"]["paused"] = True
        assert due_queries(run.observe(), later) == ()

    def test_a_very_large_fleet_keeps_the_status_bounded(self) -> None:
        names = tuple(f"web-{index:03}" for index in range(200))
        run = simulation(
            names=names,
            spec={"analysis": ANALYSIS, "strategy.waves": [{"targets": "100%"}], "strategy.maxUnavailable": 200},
            answer=good,
        ).run()
        assert run.state == "RolledOut"
        assert MAX_CHECK_ENTRIES - 3 < len(run.status["checks"]) <= MAX_CHECK_ENTRIES


class TestVerdicts:
    @pytest.mark.parametrize(
        ("limits", "value", "want"),
        [
            ({"min": "0.97"}, 0.97, "Passing"),
            ({"min": "0.97"}, 0.969, "Failing"),
            ({"max": "0.0"}, 0.0, "Passing"),
            ({"max": "0.0"}, 1e-9, "Failing"),
            ({"min": "1", "max": "2"}, 1.5, "Passing"),
            ({"min": "-2", "max": "-1"}, 0.0, "Failing"),
        ],
    )
    def test_a_range_is_closed(self, limits: dict[str, str], value: float, want: str) -> None:
        run = simulation(spec={"analysis": one_check(thresholdRange=limits), "onFailure": "Hold"})
        run.answer = lambda query: Answer(value)
        run.run(until=lambda: bool(run.status.get("checks")))
        assert entry(run, "accuracy")["state"] == want

    def test_before_compares_the_ratio(self) -> None:
        run = simulation(spec={"analysis": before()}, answer=good)
        run.run(until=lambda: bool(run.status.get("checks")) and entry(run, "energy")["state"] == "Passing")
        assert entry(run, "energy")["message"] == "0.4 / 1 = 0.4 is in range"

    def test_canary_compares_with_the_untouched_targets_at_the_same_time(self) -> None:
        def answer(query: Query) -> Answer:
            return Answer(2.0 if query.key.purpose is Purpose.REST else 0.5)

        run = simulation(spec={"analysis": canary()}, answer=answer)
        run.run(until=lambda: bool(run.status.get("checks")))
        asked = {query.key.purpose: query.promql for query in run.queries}
        assert set(asked) == {Purpose.CURRENT, Purpose.REST}
        assert 'pod=~"digits-a-[a-z0-9]' in asked[Purpose.CURRENT] and DIGEST in asked[Purpose.CURRENT]
        assert 'pod=~"(digits-b|digits-c)-[a-z0-9]' in asked[Purpose.REST] and DIGEST not in asked[Purpose.REST]
        assert entry(run, "energy")["message"] == "0.5 / 2 = 0.25 is in range"
        # Nobody is asked before there is something to compare.
        assert Purpose.BASELINE not in asked

    def test_the_last_wave_is_compared_with_what_the_rest_gave_last(self) -> None:
        def answer(query: Query) -> Answer:
            if query.key.purpose is Purpose.REST:
                return Answer(2.0)
            return Answer(1.9 if run.status["wave"] == 2 else 0.5)

        run = simulation(spec={"analysis": canary()})
        run.answer = answer
        assert run.run().state == "RolledBack"
        assert "1.9 / 2 = 0.95 is above the maximum 0.9" in run.status["failureMessage"]

    def test_only_targets_of_the_same_model_are_compared(self) -> None:
        models = [{"name": name, "uri": f"pvc://m/{name}", "sha256": DIGEST} for name in ("l4", "h100")]
        chosen = {"a": "l4", "b": "h100", "c": "l4", "d": "h100"}
        targets = [{"name": f"digits-{name}", "model": model} for name, model in chosen.items()]
        spec = {"analysis": canary(), "models": models, "targets": targets, "strategy.waves": [{"targets": 2}]}
        run = simulation(names=(), spec=spec)
        run.fleet = {f"digits-{name}": deployment(f"digits-{name}") for name in "abcd"}
        run.run(until=lambda: bool(run.status.get("checks")))
        rest = {query.key.target.name: query.promql for query in run.queries if query.key.purpose is Purpose.REST}
        assert 'pod=~"digits-c-[' in rest["digits-a"] and 'pod=~"digits-d-[' in rest["digits-b"]

    @pytest.mark.parametrize("silent", [Purpose.CURRENT, Purpose.REST])
    def test_canary_holds_when_either_side_says_nothing(self, silent: Purpose) -> None:
        run = simulation(spec={"analysis": canary()})
        run.answer = lambda query: silence(query) if query.key.purpose is silent else Answer(0.5)
        run.run(until=lambda: run.state == "NoData")
        assert "no series" in condition(run.rollout, "Ready")["message"]

    def test_canary_without_a_rest_is_refused_before_anything_is_touched(self) -> None:
        run = simulation(spec={"analysis": canary(), "strategy.waves": [{"targets": "100%"}]}).settle()
        assert run.state == "Unsupported" and not run.actions
        assert "one wave takes every target of model default" in condition(run.rollout, "Ready")["message"]

    def test_a_large_rest_is_sampled_evenly(self) -> None:
        names = tuple(f"web-{index:03}" for index in range(200))
        run = simulation(names=names, spec={"analysis": canary()})
        run.run(until=lambda: bool(run.status.get("checks")))
        (rest,) = {query.promql for query in run.queries if query.key.purpose is Purpose.REST}
        assert 40 <= len(set(re.findall("web-[0-9]+", rest))) <= MAX_REST and "web-197" in rest

    def test_a_query_of_ones_own_gets_a_pattern_for_either_side(self) -> None:
        query = 'sum(x{pod=~"$target-.*",digest=~"$digest"})'
        run = simulation(names=("a.b", "c", "d"), spec={"analysis": canary(preset=None, query=query)})
        run.run(until=lambda: bool(run.status.get("checks")))
        assert {query.promql for query in run.queries} == {
            f'sum(x{{pod=~"a\\\\.b-.*",digest=~"{DIGEST}"}})',
            'sum(x{pod=~"(c|d)-.*",digest=~".+"})',
        }

    def test_a_baseline_of_zero_gives_no_ratio(self) -> None:
        run = simulation(spec={"analysis": before()}, answer=lambda query: Answer(0.0))
        run.run(until=lambda: run.state == "NoData")
        assert "it is 0" in condition(run.rollout, "Ready")["message"]

    @pytest.mark.parametrize(("limit", "want"), [(2, "RolledBack"), (3, "RolledOut")])
    def test_failures_up_to_the_limit_are_forgiven(self, limit: int, want: str) -> None:
        bad = 3

        def answer(query: Query) -> Answer:
            nonlocal bad
            bad -= 1
            return Answer(0.5 if bad >= 0 else 0.98)

        run = simulation(spec={"analysis": one_check(failureLimit=limit)}, answer=answer)
        assert run.run().state == want

    def test_counts_start_anew_in_every_wave(self) -> None:
        seen: dict[str, int] = {}

        def answer(query: Query) -> Answer:
            # The first answer about every target is bad: one failure in the first wave, two in the second.
            seen[query.key.target.name] = seen.get(query.key.target.name, 0) + 1
            return Answer(0.5 if seen[query.key.target.name] == 1 else 0.98)

        assert simulation(spec={"analysis": one_check(failureLimit=2)}, answer=answer).run().state == "RolledOut"

    def test_a_check_must_hold_at_the_end_of_the_bake_not_only_once(self) -> None:
        run = simulation(spec={"analysis": one_check(failureLimit=1000)}, answer=good)
        run.run(until=lambda: bool(run.status.get("checks")))
        assert entry(run, "accuracy")["passes"] == 1
        run.answer = lambda query: Answer(0.5)
        for _ in range(60):
            run.step()
        assert run.status["wave"] == 1
        run.answer = good
        assert run.run().state == "RolledOut"


class TestInconclusive:
    RANGES = {"thresholdRange": {"min": "0.97"}, "inconclusiveRange": {"min": "0.9"}}  # noqa: RUF012

    def test_what_is_neither_good_nor_bad_waits_and_is_told_after_its_limit(self) -> None:
        run = simulation(
            spec={"analysis": one_check(**self.RANGES, inconclusiveLimit=2)}, answer=lambda _: Answer(0.95)
        )
        run.run(until=lambda: bool(run.status.get("checks")) and entry(run, "accuracy")["inconclusives"] == 2)
        assert run.state == "Waiting"
        run.run(until=lambda: run.state == "Inconclusive")
        assert "0.95 is below the minimum 0.97, but not by enough to fail" in condition(run.rollout, "Ready")["message"]
        assert condition(run.rollout, "Reconciling")["status"] == "True"
        for _ in range(100):
            run.step()
        assert run.status["wave"] == 1 and run.reasons().count("Inconclusive") == 1
        run.answer = good
        assert run.run().state == "RolledOut"

    def test_what_is_outside_both_ranges_fails(self) -> None:
        run = simulation(spec={"analysis": one_check(**self.RANGES)}, answer=lambda _: Answer(0.89)).run()
        assert run.state == "RolledBack"


class TestInitialDelay:
    @pytest.mark.parametrize(("delay", "want"), [(None, 5), (0, 0), (20, 20)])
    def test_the_first_question_waits_for_it(self, delay: int | None, want: int) -> None:
        check = {} if delay is None else {"initialDelaySeconds": delay}
        run = simulation(spec={"analysis": one_check(**check)}, answer=good)
        run.run(until=lambda: "waveAvailableTime" in run.status)
        available = run.now - timedelta(seconds=1)
        run.run(until=lambda: bool(run.queries))
        assert timedelta(seconds=want - 1) <= run.now - available <= timedelta(seconds=want + 2)
        assert run.run().state == "RolledOut"


def error(query: Query) -> Answer:
    return Answer(None, "no answer within 10 s", Silence.ERROR)


class TestErrors:
    @pytest.mark.parametrize("policy", ["Hold", "Fail", "Pass"])
    def test_errors_up_to_their_limit_are_waited_out_whatever_no_data_means(self, policy: str) -> None:
        run = simulation(spec={"analysis": one_check(onNoData=policy, consecutiveErrorLimit=3)}, answer=error)
        run.run(until=lambda: bool(run.status.get("checks")) and entry(run, "accuracy")["errors"] == 3)
        checked = entry(run, "accuracy")
        assert (checked["state"], checked["failures"], checked["passes"]) == ("Error", 0, 0)
        assert run.state == "NoData" and run.status["wave"] == 1
        run.answer = good
        assert run.run().state == "RolledOut"

    @pytest.mark.parametrize(("policy", "want"), [("Fail", "RolledBack"), ("Pass", "RolledOut")])
    def test_more_of_them_in_a_row_are_no_data(self, policy: str, want: str) -> None:
        run = simulation(spec={"analysis": one_check(onNoData=policy, consecutiveErrorLimit=3)}, answer=error)
        assert run.run().state == want

    def test_hold_waits_for_ever(self) -> None:
        run = simulation(spec={"analysis": one_check(consecutiveErrorLimit=0)}, answer=error)
        for _ in range(200):
            run.step()
        assert run.state == "NoData" and run.status["wave"] == 1

    def test_an_answer_in_between_begins_the_count_again(self) -> None:
        asked = 0

        def answer(query: Query) -> Answer:
            nonlocal asked
            asked += 1
            return good(query) if asked % 3 == 0 else error(query)

        spec = {"analysis": one_check(onNoData="Fail", consecutiveErrorLimit=2), "strategy.waves": [{"targets": 3}]}
        assert simulation(names=("digits-a",), spec=spec, answer=answer).run().state == "RolledOut"

    def test_errors_before_a_target_is_touched_touch_nothing(self) -> None:
        run = simulation(spec={"analysis": before(onNoData="Fail", consecutiveErrorLimit=2)}, answer=error).run()
        assert run.state == "RolledBack" and not run.actions
        assert "no baseline: no answer within 10 s" in run.status["failureMessage"]

    @pytest.mark.parametrize("policy", ["Hold", "Fail", "Pass"])
    @pytest.mark.parametrize("compare", ["Absolute", "Before", "Canary"])
    def test_a_query_at_fault_holds_whatever_no_data_means(self, policy: str, compare: str) -> None:
        def answer(query: Query) -> Answer:
            return Answer(None, "the query gives 2 series, not one: aggregate them", Silence.REFUSED)

        run = simulation(spec={"analysis": before(compare=compare, onNoData=policy)}, answer=answer)
        for _ in range(100):
            run.step()
        assert run.state == "CheckError" and run.status["wave"] == 1
        assert "aggregate them" in condition(run.rollout, "Ready")["message"]
        run.answer = good
        run.rollout["spec"]["analysis"]["checks"][0]["thresholdRange"] = {"max": "1"}
        assert run.run().state == "RolledOut"

    def test_what_has_to_be_mended_is_told_before_what_may_pass(self) -> None:
        def answer(query: Query) -> Answer:
            refused = Answer(None, "parse error", Silence.REFUSED)
            return {"energy": good(query), "accuracy": silence(query), "errors": refused}[query.key.check]

        run = simulation(spec={"analysis": ANALYSIS}, answer=answer)
        run.run(until=lambda: run.state == "CheckError")


class TestNoData:
    def test_hold_waits_with_the_reason_and_goes_on_when_there_is_data(self) -> None:
        run = simulation(spec={"analysis": one_check()}, answer=silence)
        for _ in range(200):
            run.step()
        assert run.state == "NoData" and run.status["wave"] == 1
        assert "no series" in condition(run.rollout, "Ready")["message"]
        assert condition(run.rollout, "Reconciling")["status"] == "True"
        assert run.reasons().count("NoData") == 1
        run.answer = good
        assert run.run().state == "RolledOut"

    def test_fail_counts_silence_as_failure(self) -> None:
        run = simulation(spec={"analysis": one_check(onNoData="Fail")}, answer=silence).run()
        assert run.state == "RolledBack" and run.status["failureReason"] == "AnalysisFailed"

    def test_pass_lets_silence_through(self) -> None:
        assert simulation(spec={"analysis": one_check(onNoData="Pass")}, answer=silence).run().state == "RolledOut"

    def test_hold_without_a_baseline_touches_nothing(self) -> None:
        run = simulation(spec={"analysis": before()}, answer=silence)
        for _ in range(60):
            run.step()
        assert run.state == "NoData" and not run.actions
        # Asked again at every interval, not in every pass.
        assert 8 <= len(run.queries) <= 14
        run.answer = good
        assert run.run().state == "RolledOut"

    def test_fail_without_a_baseline_ends_before_anything_is_touched(self) -> None:
        run = simulation(spec={"analysis": before(onNoData="Fail")}, answer=silence).run()
        assert run.state == "RolledBack" and not run.actions and set(run.values().values()) == {DENSE}

    def test_pass_without_a_baseline_goes_on(self) -> None:
        assert simulation(spec={"analysis": before(onNoData="Pass")}, answer=silence).run().state == "RolledOut"

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_is_not_a_number_is_no_data(self, value: float) -> None:
        run = simulation(spec={"analysis": one_check()}, answer=lambda query: Answer(value))
        run.run(until=lambda: run.state == "NoData")


class TestQueries:
    def text(self, digest: str = DIGEST, target: str = "web", **check: Any) -> str:
        parsed = Check.model_validate({"name": "check", "thresholdRange": {"max": "1"}, **check})
        return promql(
            parsed, namespace="fleet", targets=[TargetKey(target)], available=2, digest=digest, window_seconds=30
        )

    LABELS = f'namespace="fleet",pod=~"web-[a-z0-9]+-[a-z0-9]+",digest=~"{DIGEST}"'

    @pytest.mark.parametrize(
        ("preset", "want"),
        [
            (
                "energyPerInference",
                "(sum(rate(coppice_served_energy_joules_total{L}[30s]))"
                " / sum(rate(coppice_served_inferences_total{L}[30s])))"
                " and on() (count(count by (pod) (coppice_served_energy_joules_total{L})) >= 2)"
                " and on() (count(count by (pod) (coppice_served_inferences_total{L})) >= 2)",
            ),
            (
                "accuracy",
                "(min(coppice_served_accuracy_ratio{L}))"
                " and on() (count(count by (pod) (coppice_served_accuracy_ratio{L})) >= 2)",
            ),
            (
                "errorRate",
                '((sum(rate(coppice_served_requests_total{L,code=~"5.."}[30s])) or vector(0))'
                " / sum(rate(coppice_served_requests_total{L}[30s])))"
                " and on() (count(count by (pod) (coppice_served_requests_total{L})) >= 2)",
            ),
        ],
    )
    def test_a_preset_asks_every_pod_of_one_target_with_the_new_digest(self, preset: str, want: str) -> None:
        assert self.text(preset=preset) == want.replace("{L", "{" + self.LABELS)

    def test_pods_of_the_old_model_that_cannot_be_told_apart_leave_the_window_first(self) -> None:
        def answer(query: Query) -> Answer:
            return Answer(0.98)

        run = simulation(spec={"analysis": one_check(preset="vllmLatencyP99", thresholdRange={"max": "1"})})
        run.answer = answer
        run.run(until=lambda: "waveAvailableTime" in run.status)
        available = run.now
        run.run(until=lambda: bool(run.queries))
        assert run.now - available >= timedelta(seconds=29)
        assert run.run().state == "RolledOut"

    def test_a_baseline_takes_any_digest(self) -> None:
        assert 'digest=~".+"' in self.text(ANY_DIGEST, preset="accuracy")

    def test_a_dot_in_a_name_is_only_a_dot(self) -> None:
        assert r'pod=~"a\\.b-[a-z0-9]+-[a-z0-9]+"' in self.text(target="a.b", preset="accuracy")

    def test_a_users_query_is_filled_in_and_other_dollars_stay(self) -> None:
        query = 'q{n="$namespace",p=~"$target-.*",d=~"$digest",r=~"x$",w="$windows"}[$window]'
        assert self.text(query=query) == f'q{{n="fleet",p=~"web-.*",d=~"{DIGEST}",r=~"x$",w="$windows"}}[30s]'

    def test_values_cannot_leave_their_quotes(self) -> None:
        assert self.text(target='a"} or vector(1) #\\', query='q{p="$target"}') == r'q{p="a\"} or vector(1) #\\"}'

    def test_the_address_has_no_slash_at_its_end(self) -> None:
        run = simulation(spec={"analysis": ANALYSIS}, answer=good)
        run.run(until=lambda: bool(run.queries))
        assert run.queries[0].address == "http://prometheus:9090"
