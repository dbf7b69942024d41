"""`coppice rollback`: a fleet back to any model of its history, as a rollout of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from coppice_api.constants import API_VERSION
from coppice_api.modelrollout import Comparison, Revision
from coppice_cli.cluster import (
    MODEL_ROLLOUT,
    Cluster,
    ClusterError,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    collection,
    get,
    reached,
)
from coppice_cli.prunejob_view import console, plain_table
from coppice_cli.wording import JsonObject
from coppice_operator.rollout.claims import FINISHED, frozen_targets
from coppice_operator.rollout.gitops import gitops_owner
from coppice_operator.rollout.history import digests, earlier, merged

_SHORT = 12
_MAX_NAME = 200
_KEPT = ("maxUnavailable", "delivery", "git", "progressDeadlineSeconds")
"""What stays of spec.strategy: not its waves and approvals, since this is a way out."""


def rollback(
    name: Annotated[str, typer.Argument(help="The ModelRollout whose targets go back.")],
    to: Annotated[
        str | None, typer.Option("--to", help="Digest to go to, or its beginning; the one before when not given.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Only show the history.")] = False,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Take a fleet to a model of its history, the one before or any other.

    Makes a ModelRollout with that model, one wave, maxUnavailable as before, and those checks that compare with
    nothing; a rollout under way is replaced. To give every target exactly what it had: `coppice rollout undo`. Example:
    coppice rollback digits -n fleet --to 3f2a91. Exit status: 0 made, 1 refused or not found.
    """
    with reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, errors):
        item = get(cluster, MODEL_ROLLOUT, name)
        known = _history(cluster, item)
        if show:
            _show(known)
            return
        revision = _chosen(item, known, to)
        made = cluster.create(collection(MODEL_ROLLOUT.plural, cluster.namespace), manifest(item, revision))
        again = made["metadata"]["name"]
        typer.echo(
            f"{again} takes the targets of {name} to {_named(revision)}; see it with `coppice rollout status {again} "
            "--watch`"
        )
        if tool := gitops_owner(item):
            errors.print(f"note: {tool} owns {name}; it does not know of {again}, which it leaves alone")


def manifest(item: JsonObject, revision: Revision) -> JsonObject:
    """Return the ModelRollout that takes the targets of `item` to a revision."""
    metadata, spec = item["metadata"], item["spec"]
    strategy = {key: value for key, value in spec.get("strategy", {}).items() if key in _KEPT}
    wanted: JsonObject = {
        "models": [model.to_dict() for model in revision.models],
        "targets": spec["targets"],
        "strategy": {**strategy, "waves": [{"targets": "100%"}]},
        **{key: spec[key] for key in ("minimumProvenance", "onFailure", "revisionHistoryLimit") if key in spec},
    }
    analysis = spec.get("analysis") or {}
    # What an older model saves or loses against a newer one is no reason to keep it from coming back.
    checks = [
        check for check in analysis.get("checks") or () if check.get("compare", "Absolute") == Comparison.ABSOLUTE
    ]
    if checks:
        wanted["analysis"] = {**analysis, "checks": checks}
    if (item.get("status") or {}).get("state") not in FINISHED:
        wanted["replaces"] = metadata["name"]
    return {
        "apiVersion": API_VERSION,
        "kind": MODEL_ROLLOUT.kind,
        "metadata": {"generateName": f"{metadata['name'][:_MAX_NAME]}-back-", "namespace": metadata["namespace"]},
        "spec": wanted,
    }


def _history(cluster: Cluster, item: JsonObject) -> list[Revision]:
    """Return what the item's targets have served, newest first, from every rollout that had one of them."""
    rollouts = cluster.list_all(collection(MODEL_ROLLOUT.plural, cluster.namespace))
    return merged(earlier(rollouts, frozen_targets(item)))


def _chosen(item: JsonObject, known: list[Revision], to: str | None) -> Revision:
    name = item["metadata"]["name"]
    if to is None:
        own = {model["sha256"] for model in item["spec"]["models"]}
        others = [revision for revision in known if not own.intersection(digests(revision))]
        if not others:
            raise ClusterError(
                f"the history of {name} has no other model: `coppice rollout undo {name}` gives every target what "
                "it had"
            )
        return others[0]
    found = [revision for revision in known if any(digest.startswith(to.lower()) for digest in digests(revision))]
    if len(found) != 1:
        what = "no digest that begins" if not found else f"{len(found)} digests that begin"
        listed = ", ".join(_named(revision) for revision in known) or "nothing"
        raise ClusterError(f"the history of {name} has {what} with {to}; it has: {listed}")
    return found[0]


def _show(known: list[Revision]) -> None:
    if not known:
        typer.echo("no history: it begins when a rollout has come to its end")
        return
    shown = plain_table("REVISION", "DIGEST", "ROLLOUT", "COMPLETED", "MODEL")
    for revision in known:
        for model in revision.models:
            rollout, completed = revision.rollout or "", revision.completed_time or ""
            number = str(revision.number or "found")
            shown.add_row(number, model.sha256[:_SHORT], rollout, completed, f"{model.name}: {model.uri}")
    console().print(shown)


def _named(revision: Revision) -> str:
    return " and ".join(digest[:_SHORT] for digest in digests(revision))
