"""`coppice rollout`: a fleet's rollout seen, let on, stopped, and taken back.

Everything is a field of the spec, so that Git can hold it too. Where a PruneJob made the rollout its own spec.rollout
is what counts: the operator would undo a change of the ModelRollout itself.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from coppice_api.constants import Reason
from coppice_cli import rollout_view
from coppice_cli.cluster import (
    MODEL_ROLLOUT,
    PRUNE_JOB,
    Cluster,
    ClusterError,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    collection,
    get,
    not_there,
    path_of,
    reached,
)
from coppice_cli.following import versions
from coppice_cli.live import live
from coppice_cli.prunejob_view import console
from coppice_cli.status_command import EXIT_STALLED, OutputFormat, raw
from coppice_cli.wording import JsonObject, standing
from coppice_operator.rollout.claims import FINISHED
from coppice_operator.rollout.gitops import gitops_owner

app = typer.Typer(no_args_is_help=True, help="See, approve, pause, abort and undo ModelRollouts in a cluster.")
NameArgument = Annotated[str, typer.Argument(help="A ModelRollout.")]


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="A ModelRollout; all of the namespace when not given.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Live, until NAME is Ready or Stalled.")] = False,
    output: Annotated[OutputFormat | None, typer.Option("--output", "-o", help="The resource as it is.")] = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show the fleet: targets by wave, digest, joules per inference before and after, checks with their values.

    In a file or a pipe --watch prints a line for each change. Example: coppice rollout status digits -n fleet --watch.
    Exit status: 0 fine, 1 not found or no cluster; with --watch also 2 stalled, 130 Ctrl-C.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, _):
        if name is None:
            if watch:
                raise ClusterError("--watch needs the NAME of one ModelRollout")
            _show_all(cluster, output)
        elif watch:
            if output:
                raise ClusterError("--watch shows a picture: leave out --output, or use kubectl get --watch")
            _follow(cluster, name)
        elif output:
            typer.echo(raw(get(cluster, MODEL_ROLLOUT, name), output), nl=False)
        else:
            console().print(rollout_view.detail(get(cluster, MODEL_ROLLOUT, name), datetime.now(UTC)))


@app.command()
def approve(
    name: NameArgument,
    wave: Annotated[
        int | None, typer.Option("--wave", min=1, help="Up to this wave; the one that waits when not given.")
    ] = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Let the wave begin that waits for a person.

    Sets strategy.approvedWave. Example: coppice rollout approve digits -n fleet. Exit status: 0 approved, 1 refused or
    not found.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, errors):
        item = get(cluster, MODEL_ROLLOUT, name)
        found = item.get("status") or {}
        _refuse_ended(item, "there is no wave to approve")
        approved, begun = int(item["spec"].get("strategy", {}).get("approvedWave", 0)), int(found.get("wave", 0))
        number = begun + 1 if wave is None else wave
        waits = found.get("state") == Reason.WAITING_FOR_APPROVAL
        if number <= approved:
            typer.echo(f"{name}: wave {number} is approved already")
            return
        if wave is None and not waits:
            raise ClusterError(f"no wave of {name} waits for approval ({_stands(item)}): name one with --wave")
        if found.get("waves") and number > found["waves"]:
            raise ClusterError(f"{name} has {found['waves']} waves: there is no wave {number}")
        _set(cluster, item, {"strategy": {"approvedWave": number}}, errors)
        typer.echo(f"{name}: wave {number} is approved")
        if item["spec"].get("paused"):
            errors.print(f"note: {name} is paused; `coppice rollout resume {name}` lets it go on")


@app.command()
def pause(
    name: NameArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Stop a rollout where it is: nothing is touched or asked until `resume`.

    Sets spec.paused. Example: coppice rollout pause digits -n fleet. Exit status: 0 paused, 1 refused or not found.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, errors):
        item = get(cluster, MODEL_ROLLOUT, name)
        _refuse_ended(item, "there is nothing to pause")
        if item["spec"].get("paused"):
            typer.echo(f"{name} is paused already; `coppice rollout resume {name}` lets it go on")
            return
        _set(cluster, item, {"paused": True}, errors)
        typer.echo(f"{name} is paused; `coppice rollout resume {name}` lets it go on")


@app.command()
def resume(
    name: NameArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Let a paused rollout go on; its deadlines count from now.

    Sets spec.paused to false. Example: coppice rollout resume digits -n fleet. Exit status: 0 goes on, 1 refused or not
    found.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, errors):
        item = get(cluster, MODEL_ROLLOUT, name)
        if not item["spec"].get("paused"):
            raise ClusterError(f"{name} is not paused ({_stands(item)})")
        _set(cluster, item, {"paused": False}, errors)
        typer.echo(f"{name} goes on; see it with `coppice rollout status {name} --watch`")


@app.command()
def abort(
    name: NameArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """End a rollout that is under way: every touched target gets back what it had, newest first.

    Sets spec.withdrawn, which is final. Example: coppice rollout abort digits -n fleet. Exit status: 0 on its way back,
    1 refused or not found.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, errors):
        item = get(cluster, MODEL_ROLLOUT, name)
        if _ended(item) and not item["spec"].get("withdrawn"):
            undo_it = f": take it back with `coppice rollout undo {name}`" if _has_model(item) else ""
            raise ClusterError(f"{name} has ended ({_stands(item)}){undo_it}")
        _withdraw(cluster, item, errors)


@app.command()
def undo(
    name: NameArgument,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Take back a rollout that has ended: every target gets exactly what it had before, newest first.

    Sets spec.withdrawn, which is final. What somebody has changed since is left alone. Example: coppice rollout undo
    digits -n fleet. Exit status: 0 on its way back, 1 refused or not found.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, errors):
        item = get(cluster, MODEL_ROLLOUT, name)
        if not _ended(item) and not item["spec"].get("withdrawn"):
            raise ClusterError(
                f"{name} has not ended ({_stands(item)}): take it back with `coppice rollout abort {name}`"
            )
        if _ended(item) and not _has_model(item):
            raise ClusterError(f"no target of {name} has its model any more ({_stands(item)})")
        _withdraw(cluster, item, errors)


def _show_all(cluster: Cluster, output: OutputFormat | None) -> None:
    try:
        items = cluster.list_all(collection(MODEL_ROLLOUT.plural, cluster.namespace))
    except ClusterError as error:
        raise not_there(error, str(error)) from error
    if output:
        typer.echo(raw({"apiVersion": "v1", "kind": "List", "items": items}, output), nl=False)
    elif items:
        console().print(rollout_view.overview(items))
    else:
        typer.echo(f"no ModelRollouts in namespace {cluster.namespace}")


def _follow(cluster: Cluster, name: str) -> None:
    height = console().height
    with live(lambda item, now: rollout_view.detail(item, now, lines=height), rollout_view.line) as show:
        for item in versions(cluster, name, resource=MODEL_ROLLOUT):
            show(item)
            stands = standing(item)
            if stands.ended:
                break
    if sys.stdout.isatty() and item.get("status"):
        # The picture was cut to the screen; what stays is whole.
        console().print(rollout_view.detail(item, datetime.now(UTC)))
    raise typer.Exit(0 if stands.ready else EXIT_STALLED)


def _withdraw(cluster: Cluster, item: JsonObject, errors: Console) -> None:
    name = item["metadata"]["name"]
    seen = f"see it with `coppice rollout status {name} --watch`"
    if item["spec"].get("withdrawn"):
        typer.echo(f"{name} is withdrawn already ({_stands(item)}); {seen}")
        return
    _set(cluster, item, {"withdrawn": True}, errors)
    typer.echo(f"{name} is withdrawn: its targets get back what they had, newest first; {seen}")


def _set(cluster: Cluster, item: JsonObject, patch: JsonObject, errors: Console) -> None:
    """Write fields of the spec where they are written from, and say who may write them back."""
    owner = next((one for one in item["metadata"].get("ownerReferences") or () if one["kind"] == PRUNE_JOB.kind), None)
    if owner:
        item = get(cluster, PRUNE_JOB, owner["name"])
        patch = {"rollout": patch}
        cluster.merge(path_of(cluster, PRUNE_JOB, owner["name"]), {"spec": patch})
        errors.print(f"note: PruneJob {owner['name']} made this rollout, so its spec.rollout was changed")
    else:
        cluster.merge(path_of(cluster, MODEL_ROLLOUT, item["metadata"]["name"]), {"spec": patch})
    if tool := gitops_owner(item):
        kind = PRUNE_JOB.kind if owner else MODEL_ROLLOUT.kind
        errors.print(
            f"note: {tool} owns this {kind} and may undo that: put {json.dumps(patch)} into its spec where it takes "
            "the manifest from"
        )


def _ended(item: JsonObject) -> bool:
    return (item.get("status") or {}).get("state") in FINISHED


def _has_model(item: JsonObject) -> bool:
    return any(target["state"] in ("Updating", "Updated") for target in item["status"].get("targets") or ())


def _refuse_ended(item: JsonObject, so: str) -> None:
    if _ended(item):
        raise ClusterError(f"{item['metadata']['name']} has ended ({_stands(item)}): {so}")
    if item["spec"].get("withdrawn"):
        raise ClusterError(f"{item['metadata']['name']} is on its way back ({_stands(item)}): {so}")


def _stands(item: JsonObject) -> str:
    stands = standing(item)
    return f"{stands.state}: {stands.message}" if stands.message else stands.state
