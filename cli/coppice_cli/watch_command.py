"""`coppice watch`: one PruneJob until it ends; a line a change where there is no terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from coppice_cli import prunejob_view
from coppice_cli.cluster import ContextOption, KubeconfigOption, NamespaceOption, reached
from coppice_cli.following import versions
from coppice_cli.live import live
from coppice_cli.prunejob_view import Surroundings
from coppice_cli.status_command import EXIT_STALLED
from coppice_cli.wording import standing


def watch(
    name: Annotated[str, typer.Argument(help="A PruneJob.")],
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show one PruneJob live until it is Ready or Stalled; Ctrl-C leaves it running.

    In a file or a pipe: a line for each change. A restarted API server is waited for. Example:
    coppice watch digits -n fleet. Exit status: 0 ready, 2 stalled, 1 not found or deleted, 130 Ctrl-C.
    """
    with (
        reached(kubeconfig=kubeconfig, context=context, namespace=namespace) as (cluster, _),
        live(lambda item, now: prunejob_view.detail(item, Surroundings(), now), prunejob_view.line) as show,
    ):
        for item in versions(cluster, name):
            show(item)
            stands = standing(item)
            if stands.ended:
                raise typer.Exit(0 if stands.ready else EXIT_STALLED)
