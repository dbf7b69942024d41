"""A fleet with a target of each kind, forward and back."""

from __future__ import annotations

from typing import Any

from tests.builders import DIGEST
from tests.unit.operator_rollout.controllers import (
    DENSE,
    Object,
    daemon_set,
    deployment,
    inference_service,
    stateful_set,
)
from tests.unit.operator_rollout.simulator import PRUNED, Simulation, condition, rollout

BARE = PRUNED.partition("#")[0]
TARGETS: list[Object] = [
    {"name": "a"},
    {"kind": "StatefulSet", "name": "b"},
    {"kind": "DaemonSet", "name": "c"},
    {"kind": "InferenceService", "name": "d", "inject": {"storageUri": True}},
]
WAVES = [{"targets": 1}, {"targets": "100%"}]


def fleet(value: str | None = DENSE) -> list[Object]:
    return [deployment("a", value), stateful_set("b", value), daemon_set("c", value), inference_service("d", value)]


def mixed(value: str | None = DENSE, **options: Any) -> Simulation:
    strategy = {"waves": WAVES, "maxUnavailable": 1, "progressDeadlineSeconds": 30}
    return Simulation(rollout(targets=TARGETS, strategy=strategy), fleet(value), **options)


def test_each_gets_the_model_in_its_own_way_one_at_a_time() -> None:
    run = mixed().run()
    assert run.state == "RolledOut"
    assert run.values() == {"a": PRUNED, "b": PRUNED, "c": PRUNED, "d": BARE}
    assert [target["kind"] for target in run.status["targets"]] == [
        "Deployment", "StatefulSet", "DaemonSet", "InferenceService",
    ]  # fmt: skip
    assert run.most_in_transition == 1 and len(run.actions) == 4


def test_each_gets_back_exactly_what_it_had() -> None:
    for value in (DENSE, None):
        run = mixed(value, broken=lambda name, held: name == "d" and held == BARE).run()
        assert run.state == "RolledBack"
        assert run.values() == dict.fromkeys("abcd", value)
        assert "InferenceService d did not become available" in run.status["failureMessage"]


def test_what_somebody_else_holds_back_is_waited_for_by_name() -> None:
    run = mixed()
    run.fleet["b"]["spec"]["updateStrategy"] = {"type": "OnDelete"}
    run.run(until=lambda: run.state == "TargetUnhealthy")
    assert "StatefulSet b replaces a pod only when somebody deletes it" in condition(run.rollout, "Ready")["message"]
    assert run.values()["b"] == DENSE
    run.fleet["b"]["spec"]["updateStrategy"] = {"type": "RollingUpdate"}
    assert run.run().state == "RolledOut"


def test_a_stateful_set_that_goes_down_after_it_has_arrived_takes_the_others_back() -> None:
    strategy = {"waves": [{"targets": "100%", "pauseSeconds": 300}], "progressDeadlineSeconds": 30}
    run = Simulation(rollout(targets=TARGETS[:2], strategy=strategy), fleet()[:2])
    run.run(until=lambda: run.state == "Waiting")
    run.fleet["b"]["status"]["availableReplicas"] = 0
    run.step()
    assert run.status["targets"][1]["unavailableTime"]
    run.fleet["b"]["status"]["availableReplicas"] = 1
    run.step()
    assert "unavailableTime" not in run.status["targets"][1]
    run.fleet["b"]["status"]["availableReplicas"] = 0
    assert run.run().state == "RolledBack"
    assert run.status["failureReason"] == "ProgressDeadlineExceeded"
    # Its controller replaces no pod that never became ready; its own is back at what it had all the same.
    assert run.values() == {"a": DENSE, "b": DENSE}


def test_a_rollout_waits_for_a_pod_that_a_held_one_left_ill_until_somebody_has_seen_to_it() -> None:
    ill = {("b", PRUNED)}
    first = Simulation(
        rollout(targets=TARGETS[1:2], strategy={"progressDeadlineSeconds": 30}, onFailure="Hold"), fleet()[1:2],
        broken=lambda name, held: (name, held) in ill,
    ).run()  # fmt: skip
    assert first.state == "Held"
    models = [{"name": "default", "uri": "pvc://fleet-models/runs/newer", "sha256": "c" * 64}]
    newer = Simulation(
        rollout(targets=TARGETS[1:2], name="newer", created="2026-11-01T12:00:00Z", models=models),
        list(first.fleet.values()), broken=lambda name, held: (name, held) in ill,
    )  # fmt: skip
    newer.rolls("b")
    newer.run(until=lambda: newer.state == "TargetUnhealthy")
    assert "StatefulSet b has 0 of 1 pods updated and available" in condition(newer.rollout, "Ready")["message"]
    assert newer.values() == {"b": PRUNED}
    ill.clear()
    assert newer.run().state == "RolledOut"


def test_a_model_under_the_uri_that_a_service_has_already_is_there_at_once() -> None:
    run = Simulation(rollout(targets=TARGETS[3:]), [inference_service("d", BARE)]).run()
    assert run.state == "RolledOut" and not run.actions


def test_presets_ask_for_the_pods_of_each_kind() -> None:
    checks = [{"name": "errors", "preset": "errorRate", "thresholdRange": {"max": "1"}, "onNoData": "Pass"}]
    analysis = {"prometheus": {"address": "http://p"}, "intervalSeconds": 1, "windowSeconds": 10, "checks": checks}
    run = Simulation(rollout(targets=TARGETS, analysis=analysis), fleet()).run()
    asked = {query.key.target.short: query.promql for query in run.queries}
    assert 'pod=~"a-[a-z0-9]+-[a-z0-9]+"' in asked["a"]
    assert 'pod=~"b-[0-9]+"' in asked["statefulset/b"]
    assert 'pod=~"c-[a-z0-9]+"' in asked["daemonset/c"]
    assert 'pod=~"d-predictor' in asked["inferenceservice/d"]
    assert DIGEST in asked["a"]
