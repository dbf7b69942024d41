"""`coppice status`: how PruneJobs stand, in words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer
import yaml

from coppice_api.constants import LABEL_PRUNEJOB
from coppice_cli import prunejob_view
from coppice_cli.cluster import (
    Cluster,
    ClusterError,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    collection,
    get_prunejob,
    not_there,
    reached,
)
from coppice_cli.following import versions
from coppice_cli.prunejob_view import Surroundings
from coppice_cli.wording import JsonObject, standing

EXIT_STALLED, EXIT_TIMEOUT = 2, 124
_CORE = "api/v1"


class OutputFormat(StrEnum):
    """Machine-readable forms."""

    JSON = "json"
    YAML = "yaml"


def status(
    name: Annotated[str | None, typer.Argument(help="A PruneJob; all of the namespace when not given.")] = None,
    namespace: NamespaceOption = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    output: Annotated[OutputFormat | None, typer.Option("--output", "-o", help="The resource as it is.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until NAME is Ready or Stalled.")] = False,
    timeout_seconds: Annotated[
        float, typer.Option("--timeout", min=0, help="Seconds that --wait waits; a day when not given.")
    ] = 86400.0,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show PruneJobs: target, energy saved and how that is known, accuracy, progress, and why.

    With a NAME: its variants, conditions, children, events and rollout too. Example, in a pipeline:
    coppice status digits -n fleet --wait --timeout 3600. Exit status: 0 fine, 1 not found or no cluster; with --wait
    also 2 stalled, 124 neither Ready nor Stalled in time.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, errors):
        if name is None:
            if wait:
                raise ClusterError("--wait needs the NAME of one PruneJob")
            _show_all(cluster, every_namespace=all_namespaces, output=output)
            return
        if all_namespaces:
            raise ClusterError("--all-namespaces is for a list: name a PruneJob with --namespace instead")
        item, code = _awaited(cluster, name, timeout_seconds) if wait else (get_prunejob(cluster, name), 0)
        if output:
            typer.echo(raw(item, output), nl=False)
        else:
            prunejob_view.console().print(prunejob_view.detail(item, _around(cluster, item), datetime.now(UTC)))
        if code == EXIT_TIMEOUT:
            errors.print(f"error: {name} is neither Ready nor Stalled after {timeout_seconds:g} s")
        if code:
            raise typer.Exit(code)


def _show_all(cluster: Cluster, *, every_namespace: bool, output: OutputFormat | None) -> None:
    where = None if every_namespace else cluster.namespace
    try:
        items = cluster.list_all(collection("prunejobs", where))
    except ClusterError as error:
        raise not_there(error, str(error)) from error
    if output:
        typer.echo(raw({"apiVersion": "v1", "kind": "List", "items": items}, output), nl=False)
    elif items:
        console = prunejob_view.console()
        console.print(prunejob_view.overview(items, datetime.now(UTC), width=console.width, namespaces=every_namespace))
    else:
        typer.echo("no PruneJobs" + (f" in namespace {where}" if where else ""))


def _awaited(cluster: Cluster, name: str, timeout_seconds: float) -> tuple[JsonObject, int]:
    item: JsonObject = {}
    for item in versions(cluster, name, deadline_seconds=timeout_seconds):
        stands = standing(item)
        if stands.ended:
            return item, 0 if stands.ready else EXIT_STALLED
    return item, EXIT_TIMEOUT


def _around(cluster: Cluster, item: JsonObject) -> Surroundings:
    """Return what belongs to a PruneJob; what this person may not read is left out."""
    from coppice_operator.prunejob.manifest import label_value

    metadata, namespace = item["metadata"], cluster.namespace
    label = f"{LABEL_PRUNEJOB}={label_value(metadata['name'])}"
    reference = (item.get("status") or {}).get("rollout")
    rollout = None
    if reference:
        found = _readable(cluster, collection("modelrollouts", namespace), f"metadata.name={reference['name']}")
        rollout = found[0] if found else None
    return Surroundings(
        jobs=_readable(cluster, collection("jobs", namespace, "apis/batch/v1"), label=label),
        pods=_readable(cluster, collection("pods", namespace, _CORE), label=label),
        events=_readable(cluster, collection("events", namespace, _CORE), f"involvedObject.uid={metadata['uid']}"),
        rollout=rollout,
    )


def _readable(cluster: Cluster, path: str, fields: str = "", *, label: str = "") -> list[JsonObject]:
    query = {name: value for name, value in (("fieldSelector", fields), ("labelSelector", label)) if value}
    try:
        return cluster.list_all(path, **query)
    except ClusterError as error:
        if error.status == 403:
            return []
        raise


def raw(document: JsonObject, output: OutputFormat) -> str:
    """Return a resource, or a list, as it is."""
    # As kubectl does: who wrote which field is longer than everything else, and nobody reads it.
    for item in document.get("items", [document]):
        item["metadata"].pop("managedFields", None)
    if output is OutputFormat.JSON:
        return json.dumps(document, indent=2) + "\n"
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
