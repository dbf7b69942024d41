"""The operator with the chart's rights and no others: enough for everything, and none that it does not use."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster import Cluster
from reference import chart
from tests.builders import prune_job
from tests.integration.chart.conftest import RELEASE, SYSTEM, Helm, items
from tests.integration.chart.operator_process import OperatorProcess, arguments, condition, finish, token_of
from tests.integration.chart.recorder import Recorder, Right
from tests.integration.conftest import Kubectl
from tests.kserve import stand_in
from tests.waiting import wait_for

OURS = "coppice.dev"
OPERATOR = f"system:serviceaccount:{SYSTEM}:{RELEASE}"
# No request shows it: the API server asks for it, where told to, when a child blocks the deletion of its owner.
UNSEEN = {Right("update", OURS, "prunejobs/finalizers")}
SERVICES = "inferenceservices.serving.kserve.io"


def workload(kind: str, **spec: object) -> dict[str, object]:
    """One without pods, which is available at once."""
    labels = {"app": f"digits-{kind.lower()}"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "server", "image": "i"}]}}
    whole = {"selector": {"matchLabels": labels}, "template": pod, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "digits-a"}, "spec": whole}


FLEET = [workload("Deployment", replicas=0), workload("StatefulSet", replicas=0), workload("DaemonSet")]
SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "digits-a"},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}},
}
SEEN = {"status": {"conditions": [{"type": "Ready", "status": "True"}], "observedGeneration": 99}}
"""What KServe would say of it once it has seen every change there will be."""


def play_a_whole_life(kubectl: Kubectl, namespace: str, *, kserve: bool = False) -> None:
    """A PruneJob from its creation to a fleet that has the model, suspended once and its rollout edited once.

    Then one on two nodes, and one that waits in a queue.
    """

    def job() -> dict[str, object]:
        found = items(kubectl, namespace, "jobs")
        return found[0] if found else {}

    def patch(spec: object) -> None:
        kubectl.must(*space, "patch", "prunejob", "digits", "--type=merge", "-p", json.dumps({"spec": spec}))

    space = ("-n", namespace)
    targets: list[object] = [{"kind": item["kind"], "name": "digits-a"} for item in FLEET]
    for item in FLEET:
        kubectl.must(*space, "create", "-f", "-", stdin=item)
    if kserve:
        kubectl.must(*space, "create", "-f", "-", stdin=SERVICE)
        kubectl.must(
            *space, "patch", SERVICES, "digits-a", "--subresource=status", "--type=merge", "-p", json.dumps(SEEN)
        )
        targets.append({"kind": "InferenceService", "name": "digits-a", "inject": {"storageUri": True}})
    rollout = {"targets": targets, "strategy": {"waves": [{"targets": "100%"}]}}
    kubectl.must(
        *space, "create", "-f", "-", stdin=prune_job(measurement__minimumProvenance="Estimated", rollout=rollout)
    )
    wait_for(job, "the Job")
    for value in (True, False):
        patch({"suspend": value})
        wait_for(lambda value=value: job()["spec"]["suspend"] is value, f"suspend {value}")  # type: ignore[index]
    # Deleted by a person, it is made again: the same Event a second time.
    before = job()["metadata"]["uid"]  # type: ignore[index]
    name = job()["metadata"]["name"]  # type: ignore[index]
    kubectl.must(*space, "delete", "job", name)
    wait_for(lambda: job() and job()["metadata"]["uid"] != before, "the Job again")  # type: ignore[index]
    finish(kubectl, namespace, name)
    kubectl.must(*space, "wait", "--for=condition=RolledOut", "prunejob/digits", "--timeout=50s")
    assert condition(kubectl, namespace, "Ready") == ("True", "RolledOut")
    for plural in ("deployments", "statefulsets", "daemonsets"):
        (target,) = items(kubectl, namespace, plural)
        (variable,) = target["spec"]["template"]["spec"]["containers"][0]["env"]
        assert variable["value"].startswith("pvc://fleet-models/runs/m#sha256=")
    if kserve:
        (service,) = items(kubectl, namespace, SERVICES)
        assert service["spec"]["predictor"]["model"]["storageUri"] == "pvc://fleet-models/runs/m"
    patch({"rollout": {"strategy": {"maxUnavailable": 3}}})

    def edited() -> bool:
        (found,) = items(kubectl, namespace, "modelrollouts")
        return bool(found["spec"]["strategy"]["maxUnavailable"] == 3)

    wait_for(edited, "the edit in the rollout")
    for name, values in (("spread", {"hardware": [{"name": "h100", "nodes": 2}]}), ("queued", {"run__queueName": "q"})):
        document = prune_job(measurement__minimumProvenance="Estimated", **values)
        document["metadata"]["name"] = name
        kubectl.must(*space, "create", "-f", "-", stdin=document)
        wait_for(lambda name=name: condition(kubectl, namespace, "Reconciling", name)[0], f"a verdict about {name}")
    kubectl.must(*space, "patch", "prunejob", "queued", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    wait_for(lambda: condition(kubectl, namespace, "Ready", "queued")[1] == "Suspended", "the queued run's suspension")


def granted(kubectl: Kubectl, namespace: str) -> set[Right]:
    """Return what the operator may do in a namespace, but for what every service account may."""
    return _rights(kubectl, OPERATOR, namespace) - _rights(kubectl, f"{OPERATOR}-nobody", namespace)


def _rights(kubectl: Kubectl, user: str, namespace: str) -> set[Right]:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    answer = kubectl.must("create", "--as", user, "--validate=false", "-o", "json", "-f", "-", stdin=review)
    return {
        Right(verb, group, resource)
        for rule in json.loads(answer)["status"]["resourceRules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.fixture
def recorder(cluster: Cluster) -> Iterator[Recorder]:
    with Recorder(cluster.api_server_url, cluster.ca_file) as running:
        yield running


def test_a_list_of_namespaces_is_enough_and_gives_nothing_elsewhere(
    helm: Helm, kubectl: Kubectl, recorder: Recorder, tmp_path: Path
) -> None:
    spaces = ("listed-a", "listed-b")
    for name in (*spaces, "unlisted"):
        kubectl.must("create", "namespace", name)
    helm.must("install", RELEASE, str(helm.chart), "--namespace", SYSTEM, "--set", f"namespaces={{{','.join(spaces)}}}")
    try:
        kubeconfig = recorder.kubeconfig(tmp_path / "kubeconfig", token_of(kubectl, RELEASE))
        with OperatorProcess(kubeconfig, arguments(kubectl, RELEASE), tmp_path / "log"):
            kubectl.must("-n", "unlisted", "create", "-f", "-", stdin=prune_job())
            play_a_whole_life(kubectl, "listed-a")
            kubectl.must("-n", "listed-b", "create", "-f", "-", stdin=prune_job())
            wait_for(lambda: items(kubectl, "listed-b", "jobs"), "the Job in the other namespace of the list")
            assert items(kubectl, "unlisted", "jobs") == []
        assert recorder.refused == []
        assert granted(kubectl, "listed-a") == granted(kubectl, "listed-b") != set()
        assert granted(kubectl, "unlisted") == set()
        assert {right.resource for right in granted(kubectl, SYSTEM)} == {"leases"}
    finally:
        helm.must("uninstall", RELEASE, "--namespace", SYSTEM)
        kubectl.must("-n", SYSTEM, "delete", "lease", RELEASE)
        for name in (*spaces, "unlisted"):
            # First, so that nobody makes children in a namespace that goes.
            kubectl.must("-n", name, "delete", "prunejobs", "--all")
            kubectl.must("delete", "namespace", name, "--wait=false")


# Tests with a release of their own come first: `installed` has the same name, and stays to the end of the module.
def test_a_secret_is_refused_without_the_right_and_read_with_it_and_nowhere_else(helm: Helm, kubectl: Kubectl) -> None:
    spaces = ("secrets-a", "secrets-b")
    for name in spaces:
        kubectl.must("create", "namespace", name)
        kubectl.must("-n", name, "create", "secret", "generic", "fleet-git", "--from-literal=password=x")

    def read(space: str) -> bool:
        return kubectl.run("-n", space, "get", "secret", "fleet-git", "--as", OPERATOR).returncode == 0

    listed = f"namespaces={{{spaces[0]}}}"
    install = ("upgrade", "--install", RELEASE, str(helm.chart), "--namespace", SYSTEM, "--set", listed)
    try:
        helm.must(*install)
        assert not read(spaces[0])
        helm.must(*install, "--set", "rbac.readSecrets=true")
        wait_for(lambda: read(spaces[0]), "the right")
        assert granted(kubectl, spaces[0]) >= {Right("get", "", "secrets")}
        assert not {right.verb for right in granted(kubectl, spaces[0]) if right.resource == "secrets"} - {"get"}
        assert not read(spaces[1])
    finally:
        helm.must("uninstall", RELEASE, "--namespace", SYSTEM)
        for name in spaces:
            kubectl.must("delete", "namespace", name, "--wait=false")


def test_a_whole_life_in_any_namespace_uses_every_right_and_lacks_none(
    kubectl: Kubectl, installed: str, namespace: str, recorder: Recorder, tmp_path: Path
) -> None:
    kubeconfig = recorder.kubeconfig(tmp_path / "kubeconfig", token_of(kubectl, installed))
    kubectl.must("create", "-f", "-", stdin=stand_in.REDUCED)
    try:
        wait_for(lambda: kubectl.run("get", SERVICES).returncode == 0, "KServe's CRD")
        with OperatorProcess(kubeconfig, arguments(kubectl, installed), tmp_path / "log"):
            play_a_whole_life(kubectl, namespace, kserve=True)
    finally:
        kubectl.delete_kinds(SERVICES)
    assert recorder.refused == []
    used = set(recorder.used)
    # The Lease is in the operator's own namespace, the rest everywhere.
    everywhere, at_home = granted(kubectl, namespace), granted(kubectl, SYSTEM)
    assert {right.resource for right in at_home - everywhere} == {"leases"}
    assert at_home - used - UNSEEN == set(), "rights that nothing uses"
    assert used - at_home == set()
    asked = {right.resource for right in at_home}
    assert not asked & {"secrets", "configmaps", "pods/exec", "pods/log", "serviceaccounts", "*"}
    assert not [right for right in at_home if "*" in right]


def test_secrets_are_read_one_by_one_and_only_where_the_chart_says_so(helm: Helm) -> None:
    def rules(*values: str) -> list[dict[str, list[str]]]:
        roles = [
            item
            for item in yaml.safe_load_all(helm.template(*values).stdout)
            if item and item["kind"] in ("ClusterRole", "Role")
        ]
        return [rule for role in roles for rule in role["rules"] if "secrets" in rule["resources"]]

    assert rules() == []
    want = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    assert rules("rbac.readSecrets=true") == [want]
    assert rules("rbac.readSecrets=true", "namespaces={a,b}") == [want, want]


def test_who_uses_the_cluster_may_use_prunejobs(kubectl: Kubectl, installed: str, namespace: str) -> None:
    for role, verb, want in (("view", "list", "yes"), ("view", "create", "no"), ("edit", "create", "yes")):
        kubectl.must(
            "-n", namespace, "create", "rolebinding", f"{role}-{verb}", f"--clusterrole={role}", f"--user={role}"
        )
        for resource in ("prunejobs.coppice.dev", "modelrollouts.coppice.dev"):
            question = ("-n", namespace, "auth", "can-i", verb, resource, "--as", role)
            wait_for(
                lambda question=question, want=want: kubectl.run(*question).stdout.strip() == want, f"{role} {verb}"
            )
    assert (
        kubectl.run(
            "-n", namespace, "auth", "can-i", "patch", "prunejobs", "--subresource=status", "--as", "edit"
        ).stdout
        == "no\n"
    )


def test_the_page_of_rights_lists_those_of_the_chart(helm: Helm) -> None:
    rendered = helm.template("rbac.readSecrets=true")
    assert rendered.returncode == 0, rendered.stderr
    roles = [item for item in yaml.safe_load_all(rendered.stdout) if item and item["kind"] in ("Role", "ClusterRole")]
    own = [role for role in roles if "aggregate-to-" not in str(role["metadata"])]
    wanted = {triple for role in own for triple in triples(role["rules"])}
    told = [
        {"apiGroups": groups, "resources": resources, "verbs": verbs}
        for groups, resources, verbs, _ in [*chart.granted(), *chart.OPTIONAL]
    ]
    assert set(triples(told)) == wanted


def triples(rules: list[dict[str, list[str]]]) -> Iterator[tuple[str, str, str]]:
    for rule in rules:
        yield from itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
