"""`coppice retry`: start what failed or was stopped again, from its last checkpoint.

A variant that has ended is final in the status, and its Job's name follows from the spec, which cannot change. So what
failed is started again by taking away both: first the Job, to its end (while the status is final, the operator leaves a
missing Job alone), then the variant's entry. The operator finds neither, and makes the same Job again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer

from coppice_cli.cancel_command import set_suspend
from coppice_cli.cluster import (
    Cluster,
    ClusterError,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    collection,
    get_prunejob,
    prunejob_path,
    reached,
)
from coppice_cli.wording import JsonObject, standing, variants

_POLL_SECONDS = 0.2
_GONE_SECONDS = 120.0
_OPERATOR_SECONDS = 20.0
_FAILED = "Failed"


def retry(
    name: Annotated[str, typer.Argument(help="A PruneJob that failed or is suspended.")],
    hardware: Annotated[
        str | None, typer.Option("--hardware", help="Only this class; every class that failed when not given.")
    ] = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Start what failed or was suspended again, from its last checkpoint.

    The Jobs of failed classes are deleted and made anew by the operator; other classes and finished results are not
    touched, and a run that is fine is refused. Example: coppice retry digits -n fleet. Exit status: 0 started again, 1
    refused or not found.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, errors):
        item = get_prunejob(cluster, name)
        failed = [
            variant
            for variant in variants(item)
            if variant["state"] == _FAILED and hardware in (None, variant["hardware"])
        ]
        suspended = bool(item["spec"].get("suspend"))
        if not failed and not suspended:
            raise ClusterError(_refusal(item, hardware))
        if failed:
            for variant in failed:
                _delete_job(cluster, item, variant.get("jobName"))
            names = {variant["hardware"] for variant in failed}
            begun = _forget(cluster, item, names)
            typer.echo(f"{name}: {', '.join(sorted(names))} starts again from its last checkpoint")
            if not begun:
                errors.print("note: the operator has not answered yet; it starts the run when it is there")
        if suspended:
            set_suspend(cluster, item, value=False, errors=errors)
            typer.echo(f"{name} goes on from its last checkpoint; see it with `coppice watch {name}`")


def _refusal(item: JsonObject, hardware: str | None) -> str:
    """Say why there is nothing to start again."""
    name, stands, found = item["metadata"]["name"], standing(item), variants(item)
    known = [variant["hardware"] for variant in found]
    if hardware is not None and known and hardware not in known:
        return f"{name} has no hardware {hardware!r}: choose one of {', '.join(known)}"
    states = {variant["state"] for variant in found if hardware in (None, variant["hardware"])}
    if states == {"TargetMet"}:
        rollout = (item.get("status") or {}).get("rollout")
        more = f"; its rollout is ModelRollout {rollout['name']} ({rollout.get('state', '')})" if rollout else ""
        return f"{name} has met its target: nothing failed{more}"
    if states and states <= {"TargetMet", "TargetNotMet"}:
        return (
            f"{name} ran to an answer, and that is final ({stands.message}): create a PruneJob under another name with "
            "another target, budget or algorithm"
        )
    if stands.stalled:
        return f"{name} is {stands.state}, which starting it again does not change: {stands.message}"
    return f"{name} has not failed ({stands.state}: {stands.message}): stop it with `coppice cancel {name}`"


def _delete_job(cluster: Cluster, item: JsonObject, job: str | None) -> None:
    """Delete the Job of a failed variant and wait until it and its pods are gone."""
    if not job:
        return
    path = f"{collection('jobs', cluster.namespace, 'apis/batch/v1')}/{job}"
    found = _present(cluster, path)
    if found is None:
        return
    owners = {owner["uid"] for owner in found["metadata"].get("ownerReferences") or ()}
    if item["metadata"]["uid"] not in owners:
        raise ClusterError(f"Job {job} is not of this PruneJob: nothing was changed")
    uid = found["metadata"]["uid"]
    # Foreground: the pods go first, so that the new Job's pods are the only ones of its name.
    cluster.delete(path, uid=uid, propagation="Foreground")

    def gone() -> bool:
        now = _present(cluster, path)
        return now is None or now["metadata"]["uid"] != uid

    if not _within(_GONE_SECONDS, gone):
        raise ClusterError(
            f"Job {job} is still being deleted after {_GONE_SECONDS:g} s: its pods do not end; run again"
        )


def _forget(cluster: Cluster, item: JsonObject, names: set[str]) -> bool:
    """Take failed variants out of the status until the operator has begun again; return whether it has."""
    metadata = item["metadata"]

    def begun() -> bool:
        now = get_prunejob(cluster, metadata["name"])
        if now["metadata"]["uid"] != metadata["uid"]:
            raise ClusterError(f"{metadata['name']} was deleted, and another one made under its name")
        found = variants(now)
        known = {variant["hardware"]: variant["state"] for variant in found if variant["hardware"] in names}
        if _FAILED in known.values():
            # Also when an operator that had not heard of the Job's end yet has written its old verdict again.
            kept = [variant for variant in found if known.get(variant["hardware"]) != _FAILED]
            _write_variants(cluster, now, kept)
            return False
        return known.keys() == names

    return _within(_OPERATOR_SECONDS, begun)


def _write_variants(cluster: Cluster, item: JsonObject, kept: list[JsonObject]) -> None:
    metadata = item["metadata"]
    body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": {"variants": kept}}
    try:
        cluster.merge(prunejob_path(cluster, metadata["name"]) + "/status", body)
    except ClusterError as error:
        if error.status != 409:
            raise
        # The operator wrote in between: look again.


def _present(cluster: Cluster, path: str) -> JsonObject | None:
    try:
        return cluster.get(path)
    except ClusterError as error:
        if error.status == 404:
            return None
        raise


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True
