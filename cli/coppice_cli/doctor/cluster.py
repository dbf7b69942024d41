"""A cluster: the API, our kinds, who may do what, the operator, the nodes, and the tools that others bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from coppice_api import crd
from coppice_api.constants import GROUP, VERSION
from coppice_cli.cluster import Cluster, ClusterError, JsonObject
from coppice_cli.doctor.finding import Finding, Verdict

MINIMUM_MINOR = 30
"""Admission policies are stable since Kubernetes 1.30."""
INSTALL = "helm install coppice charts/coppice --namespace coppice-system --create-namespace"
UPGRADE = "upgrade the chart, which brings its CRDs along: helm upgrade coppice charts/coppice -n coppice-system"
_APPS, _AUTHORIZATION = "apis/apps/v1", "apis/authorization.k8s.io/v1"


@dataclass(frozen=True)
class Right:
    """One thing that somebody does."""

    verb: str
    group: str
    resource: str

    @property
    def name(self) -> str:
        """As `kubectl auth can-i` takes it."""
        return f"{self.verb} {self.resource}" + (f".{self.group}" if self.group else "")


def _rights(group: str, resource: str, *verbs: str) -> tuple[Right, ...]:
    return tuple(Right(verb, group, resource) for verb in verbs)


PERSON = (
    *_rights(GROUP, "prunejobs", "create", "get", "list", "watch", "patch"),
    *_rights(GROUP, "modelrollouts", "get", "list"),
    *_rights("batch", "jobs", "get", "list"),
    *_rights("", "pods", "list"),
    *_rights("", "pods/log", "get"),
    *_rights("", "events", "list"),
)
"""What `coppice status`, `watch`, `logs`, `cancel` and `kubectl apply` do."""
OPERATOR = (
    *_rights(GROUP, "prunejobs", "list", "watch"),
    *_rights(GROUP, "modelrollouts", "get", "list", "watch", "create", "patch"),
    *_rights(GROUP, "prunejobs/status", "update"),
    *_rights(GROUP, "modelrollouts/status", "update"),
    *_rights(GROUP, "prunejobs/finalizers", "update"),
    *_rights("batch", "jobs", "get", "list", "watch", "create", "patch", "delete"),
    *_rights("", "services", "create"),
    *_rights("", "pods", "list", "watch"),
    *_rights("apps", "deployments", "list", "watch", "patch"),
    *_rights("apps", "statefulsets", "list", "watch", "patch"),
    *_rights("apps", "daemonsets", "list", "watch", "patch"),
    *_rights("serving.kserve.io", "inferenceservices", "list", "watch", "patch"),
    *_rights("", "events", "get", "create", "patch"),
)
"""What the chart gives the operator; a test holds this to the chart."""


def examine(cluster: Cluster) -> Iterator[Finding]:
    """Yield what holds for every run in a cluster; ends where the API server does not answer."""
    try:
        version = cluster.get("/version")
    except ClusterError as error:
        yield Finding(
            "cluster/api-server", Verdict.PROBLEM, str(error),
            "see that the cluster is up and that the kubeconfig's server, certificates and credentials are right",
        )  # fmt: skip
        return
    yield _version(version)
    yield from (_kind(cluster, resource) for resource in crd.RESOURCES)
    yield _may(cluster, PERSON)
    yield from _operator(cluster)


def _version(version: JsonObject) -> Finding:
    shown, minor = str(version.get("gitVersion")), str(version.get("minor", "")).rstrip("+")
    if version.get("major") == "1" and minor.isdigit() and int(minor) < MINIMUM_MINOR:
        return Finding(
            "cluster/api-server", Verdict.PROBLEM, f"Kubernetes {shown}", f"1.{MINIMUM_MINOR} or later is needed"
        )
    return Finding("cluster/api-server", Verdict.OK, f"Kubernetes {shown}")


def _kind(cluster: Cluster, resource: crd.Resource) -> Finding:
    want = crd.definition(resource)
    name, check = want["metadata"]["name"], f"cluster/crd/{resource.KIND}"
    try:
        found = cluster.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
    except ClusterError as error:
        if error.status == 404:
            return Finding(
                check, Verdict.PROBLEM, f"there is no CRD {name}", f"{INSTALL}, or kubectl apply --server-side -f crds/"
            )
        if error.status == 403:
            return _served(cluster, resource, check)
        raise
    versions = {item["name"]: item for item in found["spec"]["versions"] if item.get("served")}
    if VERSION not in versions:
        return Finding(check, Verdict.PROBLEM, f"{name} serves {', '.join(versions)}, not {VERSION}", UPGRADE)
    ours = _fields(want["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    theirs = _fields(versions[VERSION]["schema"]["openAPIV3Schema"])
    if missing := sorted(ours - theirs):
        return Finding(check, Verdict.PROBLEM, f"{name} is older than this version: it lacks {_some(missing)}", UPGRADE)
    if more := sorted(theirs - ours):
        return Finding(
            check, Verdict.WARNING, f"{name} is newer than this version: it has {_some(more)} too",
            "upgrade this command, pip install --upgrade coppice, and an operator that is as old",
        )  # fmt: skip
    conditions = {item["type"]: item["status"] for item in found.get("status", {}).get("conditions", ())}
    if conditions.get("Established") != "True":
        return Finding(check, Verdict.PROBLEM, f"{name} is not established", f"kubectl describe crd {name} says why")
    return Finding(check, Verdict.OK, f"{VERSION}, the fields that this version knows")


def _served(cluster: Cluster, resource: crd.Resource, check: str) -> Finding:
    """Ask discovery, for who may not read CRDs."""
    try:
        served = cluster.get(f"/apis/{GROUP}/{VERSION}")
    except ClusterError as error:
        if error.status == 404:
            return Finding(check, Verdict.PROBLEM, f"{GROUP}/{VERSION} is not served here", INSTALL)
        raise
    if resource.KIND in {item["kind"] for item in served["resources"]}:
        return Finding(
            check, Verdict.OK, f"{VERSION} is served; its fields could not be compared: no right to see CRDs"
        )
    return Finding(check, Verdict.PROBLEM, f"{GROUP}/{VERSION} has no {resource.KIND}", UPGRADE)


def _may(cluster: Cluster, rights: Sequence[Right]) -> Finding:
    """Ask the API server of the person's own rights."""
    check, where = "cluster/rights", f"in namespace {cluster.namespace}"
    denied = [right.name for right in rights if not _allowed(cluster, right, cluster.namespace, {})]
    if denied:
        return Finding(
            check, Verdict.PROBLEM, f"you may not {_some(denied)} {where}",
            f"have the cluster's role edit bound there (the chart adds PruneJobs to it): kubectl create rolebinding "
            f"prunejobs -n {cluster.namespace} --clusterrole=edit --user=YOU",
        )  # fmt: skip
    return Finding(check, Verdict.OK, f"you may create and follow PruneJobs {where}")


def _operator(cluster: Cluster) -> Iterator[Finding]:
    check = "cluster/operator"
    try:
        found = cluster.list_all(f"/{_APPS}/deployments", labelSelector="app.kubernetes.io/name=coppice")
    except ClusterError as error:
        if error.status != 403:
            raise
        yield Finding(
            check, Verdict.UNKNOWN, "you may not list Deployments in every namespace",
            "ask somebody who may: coppice doctor --only cluster",
        )  # fmt: skip
        return
    if not found:
        yield Finding(
            check, Verdict.WARNING, "no Deployment is labelled app.kubernetes.io/name=coppice: nobody acts on "
            "PruneJobs, unless `coppice operator` was started by hand",
            INSTALL,
        )  # fmt: skip
    for deployment in found:
        metadata, ready = deployment["metadata"], deployment.get("status", {}).get("readyReplicas", 0)
        name = f"{metadata['namespace']}/{metadata['name']}"
        version = metadata["labels"].get("app.kubernetes.io/version", "of no stated version")
        if not ready:
            yield Finding(
                check, Verdict.PROBLEM, f"{name} {version} has no replica that is ready",
                f"kubectl -n {metadata['namespace']} describe pod -l app.kubernetes.io/name=coppice says why",
            )  # fmt: skip
        else:
            yield Finding(check, Verdict.OK, f"{name} {version}, {ready} ready")
        yield _operator_may(cluster, deployment)


def _operator_may(cluster: Cluster, deployment: JsonObject) -> Finding:
    check, metadata, pod = "cluster/operator/rights", deployment["metadata"], deployment["spec"]["template"]["spec"]
    account = f"system:serviceaccount:{metadata['namespace']}:{pod.get('serviceAccountName', 'default')}"
    arguments = [item for container in pod["containers"] for item in container.get("args", ())]
    namespaces = [item.partition("=")[2] for item in arguments if item.startswith("--namespace=")]
    if namespaces and cluster.namespace not in namespaces:
        return Finding(
            check, Verdict.PROBLEM, f"it works in {', '.join(namespaces)}, not in {cluster.namespace}",
            f"add {cluster.namespace} to the chart's value namespaces, or use -n with one of those",
        )  # fmt: skip
    where = cluster.namespace if namespaces else ""
    try:
        denied = [right.name for right in OPERATOR if not _allowed(cluster, right, where, {"user": account})]
    except ClusterError as error:
        if error.status != 403:
            raise
        return Finding(
            check, Verdict.UNKNOWN, f"you may not ask for the rights of {account}",
            "ask somebody who may create subjectaccessreviews.authorization.k8s.io",
        )  # fmt: skip
    if denied:
        return Finding(
            check, Verdict.PROBLEM, f"{account} may not {_some(denied)}",
            "upgrade the chart with rbac.create: true, or add this to the roles that you keep yourself",
        )  # fmt: skip
    return Finding(check, Verdict.OK, f"{account} may do all that it does")


def _allowed(cluster: Cluster, right: Right, namespace: str, whose: JsonObject) -> bool:
    resource, _, subresource = right.resource.partition("/")
    kind = "SubjectAccessReview" if whose else "SelfSubjectAccessReview"
    attributes = {
        "verb": right.verb, "group": right.group, "resource": resource, "subresource": subresource,
        "namespace": namespace,
    }  # fmt: skip
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": {"resourceAttributes": attributes, **whose},
    }  # fmt: skip
    answer = cluster.create(f"/{_AUTHORIZATION}/{kind.lower()}s", review)
    return bool(answer.get("status", {}).get("allowed"))


def _fields(schema: JsonObject, prefix: str = "") -> set[str]:
    """Return the paths of every field in a structural schema."""
    found: set[str] = set()
    for name, node in (schema.get("properties") or {}).items():
        # The API server keeps these of its own, whatever a CRD says of them.
        if not prefix and name in ("apiVersion", "kind", "metadata"):
            continue
        path = f"{prefix}{name}"
        found |= {path} | _fields(node, f"{path}.")
    for key in ("items", "additionalProperties"):
        if isinstance(node := schema.get(key), dict):
            found |= _fields(node, f"{prefix.rstrip('.')}[].")
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
