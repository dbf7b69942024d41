"""From spec.targets to concrete Deployments."""

from __future__ import annotations

from typing import Any

import pytest

from coppice_api.modelrollout import LabelSelector, RolloutModel, Target, TargetKey
from coppice_operator.rollout.kinds import Where, by_key
from coppice_operator.rollout.selection import Chosen, SelectionError, matches, select
from tests.builders import DIGEST
from tests.unit.operator_rollout.simulator import Object, deployment

ONE = (RolloutModel(name="gpu", uri="file:///gpu", sha256=DIGEST),)
TWO = (*ONE, RolloutModel(name="cpu", uri="file:///cpu", sha256=DIGEST))
FLEET = [
    deployment("c", labels={"app": "digits", "tier": "edge"}),
    deployment("a", labels={"app": "digits"}),
    deployment("b", labels={"app": "other"}),
]


def chosen(*targets: Object, models: tuple[RolloutModel, ...] = ONE, fleet: list[Object] | None = None) -> Any:
    return select([Target.model_validate(target) for target in targets], models, by_key(fleet or FLEET))


def refused(*targets: Object, **options: Any) -> tuple[str, str]:
    with pytest.raises(SelectionError) as caught:
        chosen(*targets, **options)
    return str(caught.value.reason), caught.value.message


def test_a_selector_finds_targets_ordered_by_name() -> None:
    assert chosen({"selector": {"matchLabels": {"app": "digits"}}}) == (
        Chosen(TargetKey("a"), Where("server", "MODEL_URI"), "gpu"),
        Chosen(TargetKey("c"), Where("server", "MODEL_URI"), "gpu"),
    )


def test_a_target_chosen_twice_in_the_same_way_is_one_target() -> None:
    assert len(chosen({"name": "a"}, {"selector": {"matchLabels": {"app": "digits"}}})) == 2


def test_a_target_chosen_twice_in_different_ways_is_invalid() -> None:
    reason, message = refused({"name": "a"}, {"name": "a", "model": "cpu"}, models=ONE + TWO[1:])
    assert reason == "TargetInvalid" and "targets[0].model" in message
    reason, message = refused({"name": "a", "model": "gpu"}, {"name": "a", "model": "cpu"}, models=TWO)
    assert reason == "TargetInvalid" and "targets[0] and targets[1] both choose Deployment a" in message


@pytest.mark.parametrize(
    ("target", "want"),
    [
        ({"name": "x"}, "there is no Deployment x"),
        ({"selector": {"matchLabels": {"app": "x"}}}, "targets[0]: the selector finds no"),
        ({"selector": {}}, "targets[0]: the selector finds no"),
    ],
)
def test_what_is_not_there_is_not_found(target: Object, want: str) -> None:
    reason, message = refused(target)
    assert reason == "TargetNotFound" and want in message


def test_a_deployment_under_deletion_is_not_there() -> None:
    gone = deployment("a", deletionTimestamp="2026-11-01T12:00:00Z")
    assert refused({"name": "a"}, fleet=[gone])[0] == "TargetNotFound"


@pytest.mark.parametrize(
    ("target", "want"),
    [
        ({"name": "a", "container": "x"}, "no container x; it has: server"),
        ({"name": "a", "model": "x"}, "targets[0].model is x, but models[] has: gpu"),
    ],
)
def test_what_does_not_fit_is_invalid(target: Object, want: str) -> None:
    reason, message = refused(target)
    assert reason == "TargetInvalid" and want in message


def test_a_pod_of_several_containers_needs_a_name() -> None:
    workload = deployment("a")
    workload["spec"]["template"]["spec"]["containers"].append({"name": "sidecar"})
    assert "several containers (server, sidecar)" in refused({"name": "a"}, fleet=[workload])[1]
    assert chosen({"name": "a", "container": "sidecar"}, fleet=[workload])[0].where.container == "sidecar"


def test_a_variable_that_is_set_twice_or_too_long_is_invalid() -> None:
    workload = deployment("a")
    env = workload["spec"]["template"]["spec"]["containers"][0]["env"]
    env.append(dict(env[-1]))
    assert "sets MODEL_URI 2 times" in refused({"name": "a"}, fleet=[workload])[1]
    assert "more than 2304" in refused({"name": "a"}, fleet=[deployment("a", "x" * 2305)])[1]


def test_more_targets_than_the_status_holds_are_refused() -> None:
    fleet = [deployment(f"web-{index}", labels={"app": "web"}) for index in range(1001)]
    assert "at most 1000" in refused({"selector": {"matchLabels": {"app": "web"}}}, fleet=fleet)[1]


@pytest.mark.parametrize(
    ("operator", "values", "want"),
    [
        ("In", ["edge", "core"], ["c"]),
        ("NotIn", ["edge"], ["a", "b"]),
        ("Exists", [], ["c"]),
        ("DoesNotExist", [], ["a", "b"]),
    ],
)
def test_expressions_mean_what_kubernetes_means(operator: str, values: list[str], want: list[str]) -> None:
    selector = LabelSelector.model_validate(
        {"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]}
    )
    assert (
        sorted(entry["metadata"]["name"] for entry in FLEET if matches(selector, entry["metadata"]["labels"])) == want
    )


def test_labels_and_expressions_must_all_hold() -> None:
    selector = {"matchLabels": {"app": "digits"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}
    assert [one.key.name for one in chosen({"selector": selector})] == ["a"]
