"""`coppice cancel`: stop a run and keep what it has, or delete the PruneJob."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from coppice_cli.cluster import (
    Cluster,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    get_prunejob,
    prunejob_path,
    reached,
)
from coppice_cli.wording import FINISHED, JsonObject, standing, variants
from coppice_operator.rollout.gitops import gitops_owner


def cancel(
    name: Annotated[str, typer.Argument(help="A PruneJob.")],
    delete: Annotated[bool, typer.Option("--delete", help="Delete the PruneJob, its Jobs and its rollout.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Stop a run: its pods leave a checkpoint and end, and `coppice retry` goes on from there.

    Sets spec.suspend. With --delete the PruneJob goes, and what was written to its output stays. Example:
    coppice cancel digits -n fleet. Exit status: 0 fine, 1 not found or not confirmed.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, errors):
        item = get_prunejob(cluster, name)
        if delete:
            _delete(cluster, item, yes=yes)
            return
        stands, found = standing(item), variants(item)
        if found and all(variant["state"] in FINISHED for variant in found):
            typer.echo(f"{name} has ended ({stands.state}): there is no run to stop")
            return
        if item["spec"].get("suspend"):
            typer.echo(f"{name} is suspended already; `coppice retry {name}` goes on")
            return
        set_suspend(cluster, item, value=True, errors=errors)
        typer.echo(f"{name} is suspended: its pods end after a checkpoint; `coppice retry {name}` goes on from there")


def set_suspend(cluster: Cluster, item: JsonObject, *, value: bool, errors: Console) -> None:
    """Write spec.suspend, and say who may write it back."""
    word = "true" if value else "false"
    cluster.merge(prunejob_path(cluster, item["metadata"]["name"]), {"spec": {"suspend": value}})
    if owner := gitops_owner(item):
        errors.print(
            f"note: {owner} owns this PruneJob and may undo that: set spec.suspend: {word} where it takes the manifest "
            "from"
        )


def _delete(cluster: Cluster, item: JsonObject, *, yes: bool) -> None:
    metadata, uri = item["metadata"], item["spec"]["output"]["uri"]
    if not yes:
        typer.confirm(
            f"Delete PruneJob {metadata['name']} in namespace {cluster.namespace} with its Jobs and its rollout "
            f"(targets keep the model they have, {uri} keeps its files)?",
            abort=True,
        )
    cluster.delete(prunejob_path(cluster, metadata["name"]), uid=metadata["uid"], propagation="Background")
    typer.echo(f"{metadata['name']} is deleted; its results and checkpoints stay under {uri}")
