"""`coppice logs`: what a run's pod says, from one pod to the next."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from coppice_cli.cluster import (
    Cluster,
    ClusterError,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    collection,
    get_prunejob,
    reached,
)
from coppice_cli.wording import JsonObject, variants
from coppice_operator.prunejob.manifest import CONTAINER

_CORE = "api/v1"
_JOB_LABEL = "batch.kubernetes.io/job-name"
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_POLL_SECONDS = 1.0


def logs(
    name: Annotated[str, typer.Argument(help="A PruneJob.")],
    hardware: Annotated[
        str | None, typer.Option("--hardware", help="Which of spec.hardware; needed when there are several.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends, through pods that are replaced.")
    ] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=0, help="Only so many of the last lines.")] = None,
    node: Annotated[int, typer.Option("--node", min=0, help="Which pod of a run over several nodes.")] = 0,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Print the log of a PruneJob's latest pod.

    With -f it waits for the first pod, and goes on with the next when one is lost. Example:
    coppice logs digits -n fleet -f. Exit status: 0 fine, 1 not found or no pod yet, 130 Ctrl-C.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, errors):
        job = _job_name(get_prunejob(cluster, name), hardware)
        while not (pod := _latest(cluster, job, node)) and follow:
            if _is_finished(_get_job(cluster, job)):
                raise ClusterError(f"Job {job} has ended and its pods are gone, their logs with them")
            time.sleep(_POLL_SECONDS)
        if not pod:
            raise ClusterError(f"Job {job} has no pod: `coppice status {name}` says why; -f waits for one")
        _print_log(cluster, pod, follow=follow, tail=tail)
        while follow and (pod := _next(cluster, job, node, pod)):
            errors.print(f"-- the next pod: {pod['metadata']['name']}")
            _print_log(cluster, pod, follow=True, tail=None)


def _job_name(prunejob: JsonObject, hardware: str | None) -> str:
    known = {item["hardware"]: item.get("jobName") for item in variants(prunejob)}
    name = prunejob["metadata"]["name"]
    if not known:
        raise ClusterError(f"{name} has no Job yet: `coppice status {name}` says why")
    chosen = next(iter(known)) if hardware is None and len(known) == 1 else hardware
    if chosen not in known:
        given = "several classes of hardware" if hardware is None else f"no hardware {hardware!r}"
        raise ClusterError(f"{name} has {given}: choose one with --hardware ({', '.join(known)})")
    job = known[chosen]
    if not job:
        raise ClusterError(f"{name} has no Job for {chosen} yet: `coppice status {name}` says why")
    return str(job)


def _latest(cluster: Cluster, job: str, node: int) -> JsonObject | None:
    """Return the youngest pod of a Job; of an Indexed Job, of one of its nodes."""
    found = [
        pod
        for pod in cluster.list_all(collection("pods", cluster.namespace, _CORE), labelSelector=f"{_JOB_LABEL}={job}")
        if pod["metadata"]["labels"].get(_INDEX_LABEL, str(node)) == str(node)
    ]
    return max(found, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]), default=None)


def _next(cluster: Cluster, job: str, node: int, before: JsonObject) -> JsonObject | None:
    """Wait for the pod after one whose log has ended; None when the run has."""
    while True:
        latest = _latest(cluster, job, node)
        if latest and latest["metadata"]["uid"] != before["metadata"]["uid"]:
            return latest
        found = _get_job(cluster, job)
        if found is None or _is_finished(found) or found["spec"].get("suspend"):
            return None
        time.sleep(_POLL_SECONDS)


def _is_finished(job: JsonObject | None) -> bool:
    conditions = (job or {}).get("status", {}).get("conditions") or ()
    return any(item["type"] in ("Complete", "Failed") and item.get("status") == "True" for item in conditions)


def _get_job(cluster: Cluster, name: str) -> JsonObject | None:
    try:
        return cluster.get(f"{collection('jobs', cluster.namespace, 'apis/batch/v1')}/{name}")
    except ClusterError as error:
        if error.status == 404:
            return None
        raise


def _print_log(cluster: Cluster, pod: JsonObject, *, follow: bool, tail: int | None) -> None:
    """Print a pod's log; with `follow` until the pod ends, however it does."""
    path = f"{collection('pods', cluster.namespace, _CORE)}/{pod['metadata']['name']}/log"
    query = {"container": CONTAINER, **({"follow": "true"} if follow else {})}
    if tail is not None:
        query["tailLines"] = str(tail)
    while True:
        try:
            for text in cluster.lines(path, read_seconds=None, **query):
                sys.stdout.write(text.decode(errors="replace") + "\n")
                sys.stdout.flush()
        except ClusterError as error:
            if not follow:
                raise
            if error.status == 400 and _still_starts(cluster, pod):
                # The container is being made: there is no log yet.
                time.sleep(_POLL_SECONDS)
                continue
            if error.status not in (0, 404):
                raise
            # The pod, its node, or the way to it is gone: the next pod goes on.
        return


def _still_starts(cluster: Cluster, pod: JsonObject) -> bool:
    try:
        now = cluster.get(f"{collection('pods', cluster.namespace, _CORE)}/{pod['metadata']['name']}")
    except ClusterError as error:
        if error.status == 404:
            return False
        raise
    return now.get("status", {}).get("phase") in (None, "Pending", "Running")
