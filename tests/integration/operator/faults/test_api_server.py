"""The API server refuses, forgets, is slow or is gone: the life of a PruneJob ends as it would have."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from coppice_operator.unending import AGAIN_SECONDS
from coppice_operator.watching import WATCHED
from devcluster import Cluster
from tests.integration.conftest import Kubectl
from tests.integration.operator.faults.api import Api, ApiError
from tests.integration.operator.faults.proxy import (
    READS,
    Answer,
    Cut,
    Effect,
    Gone,
    Refuse,
    Slow,
    Then,
    wait_until_struck,
)
from tests.integration.operator.faults.world import World

WRITES = "create|update|patch|delete"


def run_to_ready(world: World) -> None:
    """Create one PruneJob, see it to its end, and see that it had exactly one Job."""
    world.prunejob()
    world.until(world.jobs, "the Job")
    finish_ready(world)


def finish_ready(world: World) -> None:
    world.finish()
    world.until(lambda: world.holds("Ready", reason="TargetMet"), "the end")
    world.jobs()
    assert len(world.jobs_seen) == 1
    assert world.created_jobs() == 1
    assert world.operator.alive


@pytest.mark.parametrize(
    ("resource", "effect"),
    [
        pytest.param(resource, effect, id=f"{name} on {resource.replace('prunejobs/', '')}")
        for resource in ("jobs", "prunejobs/status", "events")
        for name, effect in (
            ("409", Refuse(409)),
            ("429", Refuse(429, retry_after=1)),
            ("500", Refuse(500)),
            ("503", Refuse(503)),
            ("no answer", Cut()),
        )
    ],
)
def test_a_write_that_fails_is_made_in_the_end_and_once(world: World, resource: str, effect: Effect) -> None:
    fault = world.proxy.inject(effect, verb="create|update|patch", resource=resource, times=2)
    run_to_ready(world)
    assert fault.struck > 0


def test_a_burst_of_503_on_everything_is_outlived(world: World) -> None:
    fault = world.proxy.inject(Refuse(503), times=7)
    world.proxy.drop_watches()
    world.prunejob()
    wait_until_struck(fault)
    finish_ready(world)


def test_409_on_a_patch_of_a_job_is_tried_again(world: World) -> None:
    world.prunejob()
    world.until(world.jobs, "the Job")
    fault = world.proxy.inject(Refuse(409), verb="patch", resource="jobs", times=2)
    world.edit("prunejobs", "digits", spec={"suspend": True})
    world.until(lambda: world.jobs()[0]["spec"]["suspend"], "the Job is suspended")
    assert fault.struck == 2
    world.edit("prunejobs", "digits", spec={"suspend": False})
    finish_ready(world)


def test_dropped_watches_lose_nothing(world: World) -> None:
    world.prunejob()
    world.until(world.jobs, "the Job")
    assert world.proxy.drop_watches() >= 5
    finish_ready(world)


def test_410_on_every_watch_makes_it_list_again(world: World) -> None:
    fault = world.proxy.inject(Gone(), verb="watch", times=5)
    world.proxy.drop_watches()
    wait_until_struck(fault)
    run_to_ready(world)


@pytest.mark.parametrize(
    "effect",
    [
        pytest.param(Refuse(404), id="404"),
        pytest.param(Refuse(400), id="400"),
        pytest.param(
            Answer(json.dumps({"type": "ERROR", "object": {"code": 500, "message": "no"}})), id="an error event"
        ),
        pytest.param(Answer('{"type": "ADDED", "obj'), id="half an event"),
        pytest.param(Answer('{"type": "ADDED"}'), id="an event without an object"),
        pytest.param(Answer(""), id="nothing"),
    ],
)
def test_whatever_a_watch_is_answered_it_begins_again(world: World, effect: Effect) -> None:
    fault = world.proxy.inject(effect, verb="watch", times=10)
    world.proxy.drop_watches()
    wait_until_struck(fault)
    run_to_ready(world)


def test_watches_that_are_answered_with_nothing_are_not_asked_for_without_pause(world: World) -> None:
    world.proxy.inject(Answer(""), verb="watch", times=10**6)
    began, earlier = time.monotonic(), len(world.proxy.requests)
    world.proxy.drop_watches()
    run_to_ready(world)
    # What a watch does not say a list does.
    asked = Counter(request.resource for request in world.proxy.requests[earlier:] if request.verb == "watch")
    pauses = (time.monotonic() - began) / AGAIN_SECONDS
    assert {item.plural for item in WATCHED if not item.optional} <= set(asked)
    assert max(asked.values()) <= 2 + pauses, f"{asked} in {pauses:.1f} pauses"


def test_lists_that_fail_as_no_server_should_are_begun_again(world: World) -> None:
    for effect in (Refuse(404), Answer("no JSON")):
        gone = world.proxy.inject(Gone(), verb="watch", times=5)
        fault = world.proxy.inject(effect, verb="list", times=3)
        world.proxy.drop_watches()
        wait_until_struck(gone)
        wait_until_struck(fault)
    run_to_ready(world)


def test_a_prunejob_that_is_gone_before_it_is_looked_at_gets_no_job(world: World, cluster: Cluster) -> None:
    # In a queue, so that there is no pod to wait for.
    world.prunejob(run__queueName="gpus")
    world.until(world.jobs, "the Job")
    world.until(world.settled, "a pass over the Job")
    world.operator.end()
    world.delete("jobs", world.jobs()[0]["metadata"]["name"])
    elsewhere = Api(cluster)

    def delete() -> None:
        elsewhere.delete(world.name, "prunejobs", "digits")

    # The operator lists it, and it is gone before the next step. Its status stays the same, so no write of it tells.
    fault = world.proxy.inject(Then(delete), verb="list", resource="prunejobs")
    world.operator = world.another()
    world.until(world.operator.ready, "the operator")
    assert fault.struck == 1
    world.until(lambda: world.proxy.count("get", "prunejobs") > 0, "it is looked for")
    elsewhere.close()
    assert world.created_jobs() == 1
    # Nothing else is held up.
    world.prunejob("next")
    world.until(world.jobs, "the next Job")
    assert world.created_jobs() == 2


def test_410_while_it_lists_at_its_start_is_begun_again(world: World) -> None:
    world.prunejob()
    world.until(world.jobs, "the Job")
    fault = world.proxy.inject(Gone(), verb="list", resource="prunejobs|jobs", times=2)
    world.operator.restart()
    wait_until_struck(fault)
    finish_ready(world)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_errors_on_lists_at_its_start_delay_it_only(world: World, status: int) -> None:
    world.prunejob()
    world.until(world.jobs, "the Job")
    fault = world.proxy.inject(Refuse(status, retry_after=1), verb="list", times=2)
    world.operator.restart()
    wait_until_struck(fault)
    finish_ready(world)


def test_answers_that_take_five_seconds_are_waited_for(world: World) -> None:
    fault = world.proxy.inject(Slow(5.0), verb="create", resource="jobs")
    run_to_ready(world)
    assert fault.struck == 1


def test_an_event_that_is_never_written_stops_nothing(world: World) -> None:
    fault = world.proxy.inject(Refuse(500), resource="events", times=1000)
    run_to_ready(world)
    # It follows the status that says Ready.
    world.until(lambda: fault.struck > 0, "an Event")


def test_nothing_reaches_the_api_server_for_a_while(world: World) -> None:
    world.prunejob()
    world.until(world.jobs, "the Job")
    fault = world.proxy.inject(Cut(), verb="|".join((*READS, WRITES)), times=20)
    world.proxy.drop_watches()
    world.edit("prunejobs", "digits", spec={"suspend": True})
    wait_until_struck(fault, 60)
    world.until(lambda: world.jobs()[0]["spec"]["suspend"], "the Job is suspended")
    world.edit("prunejobs", "digits", spec={"suspend": False})
    finish_ready(world)


def test_the_api_server_restarts_in_the_middle(world: World, cluster: Cluster) -> None:
    world.prunejob()
    world.until(world.jobs, "the Job")
    cluster.restart("kube-apiserver")
    world.until(cluster.ready, "the API server")
    finish_ready(world)


def test_the_operator_is_killed_and_comes_back(world: World) -> None:
    world.prunejob()
    world.until(world.jobs, "the Job")
    world.operator.restart()
    finish_ready(world)
    # It follows the status that says Ready.
    world.until(lambda: "TargetMet" in world.events(), "the Event")
    writes = [write.kind for write in world.proxy.writes]
    world.operator.restart()
    world.until(lambda: world.operator.ready() and world.operator.passes() > 0, "a pass over what is settled")
    assert [write.kind for write in world.proxy.writes] == writes


def test_two_operators_at_once_make_one_job(world: World) -> None:
    other = world.another()
    try:
        world.until(other.ready, "the other operator")
        run_to_ready(world)
        assert len(world.items("modelrollouts")) == 0
    finally:
        other.end()


@pytest.mark.parametrize(
    "missing", [pytest.param("jobs", id="no Jobs"), pytest.param("prunejobs/status", id="no status")]
)
def test_a_permission_that_is_lost_and_given_back(world: World, cluster: Cluster, missing: str) -> None:
    ours, targets = ["coppice.dev"], ["deployments", "statefulsets", "daemonsets"]
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "create", "patch"]},
        {"apiGroups": ours, "resources": ["prunejobs/status", "modelrollouts/status"], "verbs": ["update"]},
        {"apiGroups": ours, "resources": ["prunejobs"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ours, "resources": ["modelrollouts"], "verbs": ["get", "list", "watch", "create", "patch"]},
        {"apiGroups": ["apps"], "resources": targets, "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "create", "patch"]},
    ]
    reading = {"apiGroups": ["batch"], "resources": ["jobs/none", "jobs"], "verbs": ["get", "list", "watch"]}
    world.api.create(world.name, "roles", {"metadata": {"name": "operator"}, "rules": rules})
    world.api.create(
        world.name, "rolebindings",
        {
            "metadata": {"name": "operator"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": world.name}],
        },
    )  # fmt: skip
    world.until(lambda: world.api.get(world.name, "serviceaccounts", "default"), "the service account")
    made = world.api.call(
        "POST", f"/api/v1/namespaces/{world.name}/serviceaccounts/default/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )  # fmt: skip
    world.become(made["status"]["token"])
    world.until(world.operator.ready, "the operator with a service account")
    left = [rule for rule in rules if missing not in rule["resources"]]
    world.api.merge(world.name, "roles", "operator", {"rules": [*left, reading]})
    world.prunejob()
    world.until(lambda: "forbidden" in world.operator.log.read_text(), "the refusal")
    if missing == "jobs":
        world.until(lambda: world.condition("Ready")[1] == "ChildRefused", "what is said of it")
        assert "cannot create resource" in world.condition("Ready")[2]
        assert world.condition("Reconciling")[0] == "True"
    assert world.created_jobs() == 0
    world.api.merge(world.name, "roles", "operator", {"rules": rules})
    world.until(world.jobs, "the Job")
    finish_ready(world)


def test_a_policy_against_the_job_is_said_and_asked_with_patience(world: World) -> None:
    policy = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": world.name}}
    root = "/apis/admissionregistration.k8s.io/v1"
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": world.name}}
    spec = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
        "validations": [{"expression": "false", "message": "GPUs are for those who asked the board"}],
    }
    binding = {"policyName": world.name, "validationActions": ["Deny"]}
    try:
        world.api.call("POST", f"{root}/validatingadmissionpolicies", {**policy, "spec": spec})
        world.api.call("POST", f"{root}/validatingadmissionpolicybindings", {**policy, "spec": binding})
        world.until(lambda: _denied(world), "the policy is in force")
        world.prunejob()
        world.until(lambda: world.condition("Ready")[1] == "ChildRefused", "the refusal")
        assert "GPUs are for those who asked the board. Mend what it names" in world.condition("Ready")[2]
        assert "ChildRefused: the API server does not take Job digits-" in world.events()
        asked = world.proxy.count("create", "jobs")
        # What happens meanwhile makes it ask no sooner.
        for number in range(20):
            world.edit("prunejobs", "digits", metadata={"annotations": {"seen": str(number)}})
        world.until(lambda: world.proxy.count("create", "jobs") > asked, "it is asked again")
        assert world.proxy.count("create", "jobs") <= asked + 3
        writes = sum(write.kind == "update prunejobs/status" for write in world.proxy.writes)
        assert writes <= 2
    finally:
        world.api.call("DELETE", f"{root}/validatingadmissionpolicybindings/{world.name}")
        world.api.call("DELETE", f"{root}/validatingadmissionpolicies/{world.name}")
    finish_ready(world)


def _denied(world: World) -> bool:
    try:
        world.api.call("POST", f"/apis/batch/v1/namespaces/{world.name}/jobs?dryRun=All", _ANY_JOB)
    except ApiError as error:
        return "the board" in str(error)
    return False


_ANY_JOB = {
    "metadata": {"name": "any"},
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
}


def test_a_quota_that_forbids_pods_is_told_by_the_job_and_lifted(world: World) -> None:
    world.api.create(
        world.name, "resourcequotas", {"metadata": {"name": "none"}, "spec": {"hard": {"count/pods": "0"}}}
    )
    world.until(
        lambda: "pods" in json.dumps(world.get("resourcequotas", "none").get("status", {}).get("hard", {})), "the quota"
    )
    world.prunejob()
    world.until(lambda: "exceeded quota" in world.events(), "the Job's Event")
    assert world.condition("Reconciling")[0] == "True"
    world.delete("resourcequotas", "none")
    finish_ready(world)


def test_the_crds_are_removed_and_come_back(world: World, kubectl: Kubectl, repository: Path) -> None:
    world.prunejob()
    world.until(world.jobs, "the Job")
    try:
        kubectl.must("delete", "-f", str(repository / "crds"))
    finally:
        kubectl.must("apply", "--server-side", "-f", str(repository / "crds"))
        kubectl.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    # The Job of the PruneJob that is gone goes when the cluster's garbage collector knows the kind again.
    uid = world.prunejob("again")["metadata"]["uid"]

    def of_the_next() -> list[str]:
        return [job["metadata"]["name"] for job in world.jobs() if job["metadata"]["ownerReferences"][0]["uid"] == uid]

    world.until(of_the_next, "the next Job")
    world.finish()
    world.until(lambda: world.holds("Ready", "again", reason="TargetMet"), "the end")
    assert len(of_the_next()) == 1
    assert world.created_jobs() == 2
    assert world.operator.alive
