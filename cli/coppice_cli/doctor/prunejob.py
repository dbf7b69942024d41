"""What one PruneJob names in its cluster: claims, Secrets, a queue, classes of priority and runtime."""

from __future__ import annotations

from collections.abc import Iterator

from coppice_api import contract
from coppice_api.prunejob import PruneJob
from coppice_cli.cluster import Cluster, ClusterError, JsonObject, collection
from coppice_cli.doctor.finding import Finding, Verdict

_WRITABLE = {"ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"}
_KUEUE = ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")


def examine(cluster: Cluster, prunejob: PruneJob) -> Iterator[Finding]:
    """Yield a finding for everything that the spec names; nothing for what it does not."""
    spec, run, namespace = prunejob.spec, prunejob.spec.run, cluster.namespace
    for claim in contract.claims(spec):
        yield _claim(cluster, claim, written=spec.output.uri.removeprefix("pvc://").partition("/")[0] == claim)
    for secret in (run.credentials_secret_name, *run.image_pull_secrets):
        if secret:
            yield _there(
                cluster, f"cluster/secret/{secret}", f"{collection('secrets', namespace, 'api/v1')}/{secret}",
                f"Secret {secret} in namespace {namespace}", f"kubectl -n {namespace} create secret ... {secret} ...",
            )  # fmt: skip
    if run.priority_class_name:
        name = run.priority_class_name
        yield _there(
            cluster, f"cluster/priority-class/{name}", f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}",
            f"PriorityClass {name}", "create it, or leave run.priorityClassName out",
        )  # fmt: skip
    if run.runtime_class_name:
        name = run.runtime_class_name
        yield _there(
            cluster, f"cluster/runtime-class/{name}", f"/apis/node.k8s.io/v1/runtimeclasses/{name}",
            f"RuntimeClass {name}", "install the GPU operator, which brings it, or leave run.runtimeClassName out",
        )  # fmt: skip
    if run.queue_name:
        yield _queue(cluster, run.queue_name)


def _claim(cluster: Cluster, name: str, *, written: bool) -> Finding:
    check, namespace = f"cluster/claim/{name}", cluster.namespace
    try:
        found = cluster.get(f"{collection('persistentvolumeclaims', namespace, 'api/v1')}/{name}")
    except ClusterError as error:
        return _refused(error, check, f"PersistentVolumeClaim {name} in namespace {namespace}", "create it")
    phase, modes = found.get("status", {}).get("phase"), set(found["spec"].get("accessModes") or ())
    if written and not modes & _WRITABLE:
        return Finding(
            check, Verdict.PROBLEM, f"claim {name} is {', '.join(sorted(modes))}, and results are written to it",
            "use a claim with ReadWriteMany or ReadWriteOnce for spec.output.uri",
        )  # fmt: skip
    if phase == "Lost":
        return Finding(
            check, Verdict.PROBLEM, f"claim {name} has lost its volume", "restore the volume, or a new claim"
        )
    if phase != "Bound":
        return Finding(
            check, Verdict.WARNING, f"claim {name} is {phase}",
            "fine where its class binds with the first pod (WaitForFirstConsumer); else kubectl describe pvc says why",
        )  # fmt: skip
    return Finding(check, Verdict.OK, f"claim {name} is bound, {', '.join(sorted(modes))}")


def _queue(cluster: Cluster, name: str) -> Finding:
    check, namespace = f"cluster/queue/{name}", cluster.namespace
    for api in _KUEUE:
        try:
            found = cluster.get(f"{collection('localqueues', namespace, f'apis/{api}')}/{name}")
        except ClusterError as error:
            if error.status == 404 and "localqueues" not in str(error):
                # The API itself is not there.
                continue
            return _refused(error, check, f"LocalQueue {name} in namespace {namespace}", "create it, or ask its owner")
        states = {item["type"]: item for item in found.get("status", {}).get("conditions") or ()}
        active: JsonObject = states.get("Active", {})
        if active.get("status") == "False":
            return Finding(
                check, Verdict.PROBLEM, f"LocalQueue {name} is not active: {active.get('message', '')}",
                "see to its ClusterQueue: kubectl describe clusterqueue",
            )  # fmt: skip
        return Finding(check, Verdict.OK, f"LocalQueue {name} is there")
    return Finding(
        check, Verdict.PROBLEM, f"run.queueName is {name}, but Kueue is not installed: the Job would wait for ever",
        "install Kueue, or leave run.queueName out",
    )  # fmt: skip


def _there(cluster: Cluster, check: str, path: str, what: str, mend: str) -> Finding:
    try:
        cluster.get(path)
    except ClusterError as error:
        return _refused(error, check, what, mend)
    return Finding(check, Verdict.OK, f"{what} is there")


def _refused(error: ClusterError, check: str, what: str, mend: str) -> Finding:
    if error.status == 403:
        return Finding(check, Verdict.UNKNOWN, f"you may not see {what}", "ask somebody who may")
    if error.status == 404:
        return Finding(check, Verdict.PROBLEM, f"there is no {what}", mend)
    raise error
