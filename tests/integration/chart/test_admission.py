"""The admission policies, asked by people with different rights."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.builders import model_rollout, prune_job
from tests.integration.chart.conftest import RELEASE, SYSTEM, items
from tests.integration.conftest import Kubectl
from tests.waiting import wait_for

OPERATOR = f"system:serviceaccount:{SYSTEM}:{RELEASE}"
Json = dict[str, Any]


class People:
    """Who may do what in one namespace, by real RBAC."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self.kubectl, self.namespace = kubectl, namespace

    def may(self, user: str, verb: str, resource: str, *names: str) -> None:
        """Give a right; `coppice` as resource means all of ours."""
        role = f"{user}-{verb}-{resource}".replace(".", "-").replace(",", "-")
        chosen = [f"--resource-name={name}" for name in names]
        self.kubectl.must(
            "-n", self.namespace, "create", "role", role, f"--verb={verb}", f"--resource={resource}", *chosen
        )
        self.kubectl.must("-n", self.namespace, "create", "rolebinding", role, f"--role={role}", f"--user={user}")

    def create(self, user: str, document: Json) -> subprocess.CompletedProcess[str]:
        """Create as a user, without leaving anything behind."""
        return self.kubectl.run(
            "-n", self.namespace, "create", "--dry-run=server", "--as", user, "-f", "-", stdin=document
        )


@pytest.fixture(scope="module")
def people(kubectl: Kubectl, installed: str) -> Iterator[People]:
    """ada may update every Deployment, grace only digits-a; both may write our resources."""
    found = People(kubectl, "people")
    kubectl.must("create", "namespace", found.namespace)
    for user in ("ada", "grace"):
        found.may(user, "get,create,update,patch", "prunejobs.coppice.dev,modelrollouts.coppice.dev")
    found.may("ada", "update", "deployments.apps")
    found.may("grace", "update", "deployments.apps", "digits-a")
    # The API server takes a moment to know a new policy.
    other = [{"name": "digits-b"}]
    for document in (
        model_rollout(targets=other),
        prune_job(rollout={"targets": other}),
        prune_job(run__image="x"),
        prune_job(model__uri="s3://other/x"),
    ):
        wait_for(lambda document=document: found.create("grace", document).returncode != 0, "the policies")
    yield found
    kubectl.must("delete", "namespace", found.namespace, "--wait=false")


SELECTOR = [{"selector": {"matchLabels": {"app": "digits"}}}]
SERVICE = [{"kind": "InferenceService", "name": "digits-a", "inject": {"storageUri": True}}]


def names(*wanted: str) -> list[Json]:
    return [{"name": name} for name in wanted]


ALLOWED = {
    "all rights, two names": ("ada", names("digits-a", "digits-b")),
    "all rights, a selector": ("ada", SELECTOR),
    "all rights, as many as the API takes": ("ada", names(*(f"digits-{number}" for number in range(256)))),
    "one right, its name": ("grace", names("digits-a")),
    "one right, its name twenty times": ("grace", names(*["digits-a"] * 20)),
}
NEED_ALL = "targets: a selector, or more than 20 targets, need the right to update everything"
REFUSED = {
    "one right, another name": (
        "grace", names("digits-a", "digits-b"), "targets[1]: grace may not update Deployment digits-b",
    ),
    "one right, a selector": ("grace", SELECTOR, NEED_ALL),
    "one right, too many to ask for": ("grace", names(*["digits-a"] * 21), NEED_ALL),
    "all of another kind": ("ada", SERVICE, "targets[0]: ada may not update InferenceService digits-a"),
    "two kinds, a right to one": (
        "ada", [*SELECTOR, {"kind": "StatefulSet", "selector": {"matchLabels": {"app": "digits"}}}], NEED_ALL,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["ModelRollout", "PruneJob"])
def test_a_rollout_is_for_who_may_update_its_targets(people: People, kind: str) -> None:
    def document(targets: list[Json]) -> Json:
        return model_rollout(targets=targets) if kind == "ModelRollout" else prune_job(rollout={"targets": targets})

    for case, (user, targets) in ALLOWED.items():
        result = people.create(user, document(targets))
        assert result.returncode == 0, f"{case}: {result.stderr}"
    for case, (user, targets, message) in REFUSED.items():
        result = people.create(user, document(targets))
        assert "Forbidden" in result.stderr, f"{case}: {result.stdout}{result.stderr}"
        field = "spec" if kind == "ModelRollout" else "spec.rollout"
        assert f"{field}.{message}" in result.stderr, f"{case}: {result.stderr}"


def test_a_change_is_asked_for_like_a_creation_and_labels_are_not(people: People) -> None:
    kubectl, space = people.kubectl, people.namespace
    kubectl.must("-n", space, "apply", "-f", "-", stdin=model_rollout(targets=names("digits-b")))
    kubectl.must("-n", space, "apply", "-f", "-", stdin=prune_job(rollout={"targets": names("digits-b")}))
    for kind in ("modelrollout", "prunejob"):
        grace = ("-n", space, "--as", "grace", "patch", kind, "digits", "--type=merge", "-p")
        kubectl.must(*grace, json.dumps({"metadata": {"labels": {"seen": "yes"}}}))
        paused = {"paused": True} if kind == "modelrollout" else {"rollout": {"paused": True}}
        result = kubectl.run(*grace, json.dumps({"spec": paused}))
        assert "may not update Deployment digits-b" in result.stderr
        kubectl.must(*("ada" if item == "grace" else item for item in grace), json.dumps({"spec": paused}))
    # A run may be suspended by who may not touch the fleet.
    kubectl.must(*grace, json.dumps({"spec": {"suspend": True}}))
    kubectl.must("-n", space, "delete", "prunejob,modelrollout", "digits")


def test_the_operator_makes_the_rollout_of_a_prunejob_without_being_asked_again(people: People) -> None:
    # It may only patch Deployments, so as a person it would be refused.
    assert people.kubectl.run("auth", "can-i", "update", "deployments", "--as", OPERATOR).stdout.strip() == "no"
    result = people.create(OPERATOR, model_rollout(targets=names("digits-b")))
    assert result.returncode == 0, result.stderr


IMAGES = {
    "none": (None, True),
    "the default's name": ("coppice-pruner:2", True),
    "the team's": ("registry.example/team/pruner@sha256:" + "0" * 64, True),
    "another team's with the same beginning": ("registry.example/team-b/pruner:1", False),
    "anybody's": ("pruner", False),
}


@pytest.mark.parametrize(("image", "want"), IMAGES.values(), ids=IMAGES)
def test_images_of_runs_begin_with_an_allowed_prefix(people: People, image: str | None, want: bool) -> None:
    result = people.create("ada", prune_job(run__image=image) if image else prune_job())
    assert (result.returncode == 0) is want, result.stderr
    if not want:
        assert f"spec.run.image {image} begins with none of the prefixes allowed here" in result.stderr
        assert "coppice-pruner:, registry.example/team/" in result.stderr


URIS = {
    "the team's": ({"model__uri": "s3://team/digits", "output__uri": "s3://team/runs"}, ""),
    "another bucket": ({"model__uri": "s3://team-b/digits"}, "s3://team-b/digits"),
    "another place for results": ({"output__uri": "file:///etc"}, "file:///etc"),
    "a way around": ({"model__uri": "pvc://fleet-models/../other"}, "pvc://fleet-models/../other"),
    "code of the image": ({"model__uri": "python://team.models:digits"}, "python://team.models:digits"),
}


@pytest.mark.parametrize(("values", "refused"), URIS.values(), ids=URIS)
def test_models_data_and_results_are_where_they_may_be(people: People, values: Json, refused: str) -> None:
    result = people.create("ada", prune_job(**values))
    assert (result.returncode == 0) is not bool(refused), result.stderr
    if refused:
        assert (
            f"{refused} begins with none of the prefixes allowed here: pvc://fleet-models/, s3://team/" in result.stderr
        )


def test_the_policies_are_typed_right(people: People) -> None:
    def checked() -> list[Json]:
        return [item["status"] for item in policies() if "typeChecking" in item.get("status", {})]

    def policies() -> list[Json]:
        return [
            item
            for item in items(people.kubectl, "default", "validatingadmissionpolicies")
            if "coppice" in item["metadata"]["name"]
        ]

    wait_for(lambda: len(checked()) == len(policies()) == 4, "the type check of every policy")
    assert [status["typeChecking"] for status in checked()] == [{}] * 4
