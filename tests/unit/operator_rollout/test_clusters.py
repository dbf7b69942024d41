"""Targets in several clusters: waves across them, one of them away, and the way back."""

from __future__ import annotations

from typing import Any

import pytest

from coppice_api.modelrollout import Check, ClusterLabel, TargetKey
from coppice_operator.clusters.view import ClusterView
from coppice_operator.plan import ApplyObject
from coppice_operator.rollout.analysis import due_queries
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.plan import plan
from coppice_operator.rollout.presets import promql
from coppice_operator.rollout.question import Answer, Query
from coppice_operator.rollout.reach import needed
from tests.builders import DIGEST
from tests.unit.operator_rollout.simulator import (
    DENSE,
    PRUNED,
    START,
    Object,
    Simulation,
    condition,
    deployment,
    rollout,
)
from tests.unit.operator_rollout.test_forward import ANALYSIS

FAULT = "its API server cannot be reached: see to it, or mend server in Secret berlin"
HELD = f"cluster berlin: {FAULT}"
CANARY = {"waves": [{"targets": 1, "pauseSeconds": 5}, {"targets": "100%"}], "maxUnavailable": 2}


def fleet(*names: str, berlin: tuple[str, ...] = ("c", "d"), **spec: Any) -> Simulation:
    """A rollout to Deployments, those named by `berlin` in that cluster."""
    targets = [{"name": name} | ({"cluster": "berlin"} if name in berlin else {}) for name in names]
    document = rollout(targets=targets, **{"strategy": CANARY, **spec})
    made = Simulation(document, [deployment(name) for name in names])
    made.cluster_of = dict.fromkeys(berlin, "berlin")
    return made


def states(run: Simulation) -> dict[str, str]:
    return {target["name"]: target["state"] for target in run.status["targets"]}


def message(run: Simulation) -> str:
    return str(condition(run.rollout, "Ready")["message"])


def target(run: Simulation, name: str) -> Object:
    return dict(next(item for item in run.status["targets"] if item["name"] == name))


def test_waves_go_across_clusters() -> None:
    run = fleet("a", "b", "c", "d").run()
    assert run.state == "RolledOut"
    assert run.values() == dict.fromkeys("abcd", PRUNED)
    assert {item["name"]: item.get("cluster") for item in run.status["targets"]} == {
        "a": None, "b": None, "c": "berlin", "d": "berlin"
    }  # fmt: skip
    assert run.status["clusters"] == [{"name": "berlin", "reachable": True, "changedTime": "2026-11-01T12:00:00Z"}]


def test_a_cluster_that_goes_holds_its_own_targets_and_the_others_go_on() -> None:
    run = fleet("a", "b", "c", "d")
    run.run(until=lambda: states(run)["a"] == "Updated")
    run.down["berlin"] = FAULT
    run.run(until=lambda: states(run)["b"] == "Updated").settle()
    assert (states(run)["c"], states(run)["d"]) == ("Pending", "Pending")
    assert target(run, "c")["message"] == HELD
    assert run.state == "ClusterUnreachable"
    assert message(run) == f"2 of 4 targets have the new model; 2 targets are held: {HELD}"
    assert condition(run.rollout, "Reconciling")["status"] == "True"
    assert run.status["clusters"][0]["reachable"] is False
    assert run.status["clusters"][0]["message"] == HELD
    assert run.reasons().count("ClusterUnreachable") == 1
    run.down.clear()
    run.run()
    assert run.state == "RolledOut"
    assert run.values() == dict.fromkeys("abcd", PRUNED)
    assert "message" not in target(run, "c")


def test_a_cluster_away_from_the_start_joins_when_it_is_there() -> None:
    run = fleet("a", "b", "c", "d")
    run.down["berlin"] = FAULT
    run.run(until=lambda: run.state == "ClusterUnreachable")
    assert states(run) == {"a": "Updated", "b": "Updated"}
    assert message(run) == f"2 of 2 targets have the new model; {HELD}"
    run.down.clear()
    run.run()
    assert (run.state, run.status["totalTargets"]) == ("RolledOut", 4)


def test_nothing_begins_while_every_cluster_is_away() -> None:
    run = fleet("c", "d")
    run.down["berlin"] = FAULT
    run.settle()
    assert (run.state, run.status["wave"]) == ("ClusterUnreachable", 0)
    assert message(run) == f"the first wave waits; {HELD}"
    run.down.clear()
    assert run.run().state == "RolledOut"


def test_nobody_goes_ahead_of_the_canary_because_its_cluster_is_away() -> None:
    run = fleet("a", "b", "c", berlin=("a",))
    run.run(until=lambda: states(run).get("a") == "Updating")
    run.down["berlin"] = FAULT
    run.settle()
    for _ in range(50):
        run.step()
    assert (states(run)["b"], states(run)["c"]) == ("Pending", "Pending")
    assert message(run) == f"wave 1 of 2 waits; 1 target is held: {HELD}"
    run.down.clear()
    assert run.run().state == "RolledOut"


def test_what_moves_in_a_cluster_that_goes_counts_and_is_not_late_when_it_is_back() -> None:
    run = fleet("a", "b", "c", "d", strategy={**CANARY, "progressDeadlineSeconds": 20})
    run.run(until=lambda: states(run).get("c") == "Updating" and run.values()["c"] == PRUNED)
    run.down["berlin"] = FAULT
    for _ in range(100):
        run.step()
        assert run.most_in_transition <= 2
    assert states(run)["c"] == "Updating"
    assert not run.status.get("failureReason")
    run.down.clear()
    assert run.run().state == "RolledOut"


def test_with_the_only_slot_in_a_cluster_that_is_away_the_others_wait() -> None:
    run = fleet("a", "b", "c", "d", berlin=("b",), strategy={**CANARY, "maxUnavailable": 1})
    run.run(until=lambda: states(run).get("b") == "Updating")
    run.down["berlin"] = FAULT
    for _ in range(60):
        run.step()
    assert (states(run)["c"], states(run)["d"]) == ("Pending", "Pending")
    assert HELD in message(run)


def test_the_way_back_goes_on_without_a_cluster_and_ends_with_it() -> None:
    run = fleet("a", "b", "c", "d")
    run.run(until=lambda: states(run).get("c") == "Updated")
    run.down["berlin"] = FAULT
    run.rollout["spec"]["withdrawn"] = True
    run.run(until=lambda: states(run)["a"] == states(run)["b"] == "RolledBack").settle()
    assert run.state == "RollingBack"
    assert run.values()["c"] == PRUNED
    assert target(run, "c")["message"] == HELD
    assert message(run).endswith(HELD)
    for _ in range(900):
        run.step()
    assert run.state == "RollingBack"
    run.down.clear()
    run.run()
    assert run.state == "RolledBack"
    assert run.values() == dict.fromkeys("abcd", DENSE)
    assert set(states(run).values()) <= {"RolledBack", "Pending"}


def test_a_cluster_that_goes_on_the_way_back_delays_only_its_own() -> None:
    run = fleet("a", "b", "c", "d", strategy={**CANARY, "maxUnavailable": 1, "progressDeadlineSeconds": 20})
    run.run()
    run.rollout["spec"]["withdrawn"] = True
    run.run(until=lambda: states(run)["d"] == "RollingBack")
    run.down["berlin"] = FAULT
    # Nobody can say whether it has arrived: it counts as in transition until it would be late.
    run.run(until=lambda: states(run)["a"] == states(run)["b"] == "RolledBack")
    run.down.clear()
    run.run()
    assert run.values() == dict.fromkeys("abcd", DENSE)
    assert set(states(run).values()) == {"RolledBack"}


def test_a_target_that_a_cluster_does_not_have_is_said_at_once() -> None:
    run = fleet("a", "c")
    del run.fleet["c"]
    run.settle()
    assert (run.state, message(run)) == (
        "TargetNotFound", "targets[1]: there is no Deployment c in the rollout's namespace of cluster berlin"
    )  # fmt: skip


def test_a_target_that_is_missing_when_its_cluster_comes_is_said_before_the_end() -> None:
    run = fleet("a", "c")
    run.down["berlin"] = FAULT
    run.run(until=lambda: run.state == "ClusterUnreachable")
    del run.fleet["c"]
    run.down.clear()
    run.settle()
    assert run.state == "TargetNotFound"
    run.fleet["c"] = deployment("c")
    assert run.run().state == "RolledOut"


def test_one_name_in_two_clusters_is_two_targets_each_with_what_it_had() -> None:
    document = rollout(targets=[{"name": "a"}, {"name": "a", "cluster": "berlin"}],
                       strategy={"waves": [{"targets": "100%"}]})  # fmt: skip
    here, there = deployment("a"), deployment("a", "pvc://other")
    writes: list[tuple[str | None, str]] = []
    for _ in range(4):
        observation = RolloutObservation(
            rollout=document, workloads=(here,), clusters={"berlin": ClusterView((there,))}
        )  # fmt: skip
        made = plan(observation, START)
        document["status"] = made.status
        writes += [
            (action.cluster, action.manifest["metadata"]["name"])
            for action in made.actions
            if isinstance(action, ApplyObject)
        ]
    assert set(writes) == {(None, "a"), ("berlin", "a")}
    assert {item.get("cluster"): item["previousValue"] for item in document["status"]["targets"]} == {
        None: DENSE, "berlin": "pvc://other"
    }  # fmt: skip


def test_rollouts_to_one_name_in_different_clusters_do_not_wait_for_each_other() -> None:
    run = fleet("c")
    other = rollout("c", name="older", created="2026-11-01T10:00:00Z")
    run.siblings = (other,)
    assert run.run().state == "RolledOut"
    run = fleet("c")
    other["spec"]["targets"] = [{"name": "c", "cluster": "berlin"}]
    run.siblings = (other,)
    assert run.settle().state == "TargetClaimed"


def test_a_rollout_that_has_ended_looks_at_no_cluster() -> None:
    run = fleet("a", "c").run()
    assert needed(run.rollout) == {}
    run.down["berlin"] = FAULT
    run.step()
    assert run.state == "RolledOut"
    assert run.status["clusters"][0]["reachable"] is True
    run.rollout["spec"]["withdrawn"] = True
    assert needed(run.rollout) == {"berlin": frozenset({("apps/v1", "Deployment")})}


@pytest.mark.parametrize(
    ("change", "want"),
    [
        ({}, {"berlin"}),
        ({"spec": {"targets": [{"name": "a"}]}}, set()),
        ({"status": {"targets": [{"name": "a", "cluster": "rome"}]}}, {"berlin", "rome"}),
        ({"status": {"state": "RolledOut"}}, set()),
        ({"status": {"state": "RolledBack"}, "spec": {"withdrawn": True, "targets": [{"cluster": "berlin"}]}}, set()),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, set()),
        ({"spec": None, "status": None}, set()),
        ({"spec": {"targets": [{"kind": "Odd", "cluster": "berlin"}]}}, set()),
    ],
)
def test_which_clusters_a_rollout_needs(change: Object, want: set[str]) -> None:
    assert needed({"metadata": {}, "spec": {"targets": [{"cluster": "berlin"}]}, **change}).keys() == want


def test_git_delivery_to_another_cluster_is_refused() -> None:
    git = {"repository": "https://git.example/fleet.git", "path": "kustomization.yaml"}
    run = fleet("c", strategy={"delivery": "Git", "git": git}).settle()
    assert run.state == "Unsupported"
    assert "takes no targets[].cluster" in message(run)


def test_a_target_out_of_sight_is_not_asked_for_and_what_is_known_of_it_kept() -> None:
    asked: list[Query] = []

    def answer(query: Query) -> Answer:
        asked.append(query)
        return Answer(
            {"errors": 0.0, "accuracy": 0.98}.get(query.key.check, 1.0 if query.key.purpose == "baseline" else 0.4)
        )

    run = fleet("a", "b", "c", "d", analysis=ANALYSIS)
    run.answer = answer
    run.run(until=lambda: states(run).get("c") == "Updated")
    before = [item for item in run.status["checks"] if item.get("targetCluster") and item.get("baseline")]
    run.down["berlin"] = FAULT
    run.step()
    asked.clear()
    for _ in range(120):
        run.step()
    assert asked
    assert not [query for query in asked if query.key.target.cluster]
    kept = {(item["name"], item["target"]): item.get("baseline") for item in run.status["checks"]}
    assert before
    assert {(item["name"], item["target"]): item["baseline"] for item in before}.items() <= kept.items()
    run.down.clear()
    assert run.run().state == "RolledOut"


def test_each_cluster_may_have_a_prometheus_of_its_own() -> None:
    own = {"cluster": "berlin", "prometheus": {"address": "https://berlin.example/", "credentialsSecretName": "p"}}
    run = fleet("a", "c", strategy={"waves": [{"targets": "100%"}]}, analysis={**ANALYSIS, "clusters": [own]})
    run.step()
    asked = {query.key.target.cluster: (query.address, query.secret) for query in due_queries(run.observe(), run.now)}
    assert asked == {
        None: (ANALYSIS["prometheus"]["address"].rstrip("/"), None),
        "berlin": ("https://berlin.example", ("fleet", "p")),
    }


@pytest.mark.parametrize(
    ("label", "cluster", "want"),
    [
        (None, "berlin", ""),
        (ClusterLabel(), "berlin", 'cluster="berlin",'),
        (ClusterLabel(), None, 'cluster="",'),
        (ClusterLabel(name="site", own="home"), None, 'site="home",'),
    ],
)
def test_presets_take_only_series_of_the_targets_cluster(
    label: ClusterLabel | None, cluster: str | None, want: str
) -> None:
    check = Check.model_validate({"name": "c", "preset": "errorRate", "thresholdRange": {"max": "1"}})
    text = promql(check, namespace="fleet", targets=[TargetKey("a", cluster=cluster)], available=1, digest=DIGEST,
                  window_seconds=60, label=label)  # fmt: skip
    assert text.count(want) == text.count('namespace="fleet"') if want else "cluster=" not in text
    own = Check.model_validate({"name": "c", "query": 'up{c="$cluster"}', "thresholdRange": {"max": "1"}})
    text = promql(own, namespace="fleet", targets=[TargetKey("a", cluster="berlin")], available=1, digest=DIGEST,
                  window_seconds=60, label=label)  # fmt: skip
    assert text == 'up{c="berlin"}'
