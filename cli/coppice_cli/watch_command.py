"""`coppice watch`: one PruneJob until it ends; a line a change where there is no terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.live import Live

from coppice_cli import prunejob_view
from coppice_cli.cluster import ContextOption, KubeconfigOption, NamespaceOption, reached
from coppice_cli.following import versions
from coppice_cli.prunejob_view import Surroundings
from coppice_cli.status_command import EXIT_STALLED
from coppice_cli.wording import JsonObject, standing

Show = Callable[[JsonObject], None]


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
        _screen() if sys.stdout.isatty() else contextlib.nullcontext(_lines()) as show,
    ):
        for item in versions(cluster, name):
            show(item)
            stands = standing(item)
            if stands.ended:
                raise typer.Exit(0 if stands.ready else EXIT_STALLED)


@contextlib.contextmanager
def _screen() -> Iterator[Show]:
    held: list[JsonObject] = []

    def view() -> object:
        return prunejob_view.detail(held[0], Surroundings(), datetime.now(UTC)) if held else ""

    # Drawn anew every second, so that the time that is left runs down.
    with Live(get_renderable=view, console=prunejob_view.console(), refresh_per_second=1) as live:  # type: ignore[arg-type]

        def show(item: JsonObject) -> None:
            held[:] = [item]
            live.refresh()

        yield show


def _lines() -> Show:
    said = ""

    def show(item: JsonObject) -> None:
        nonlocal said
        if (news := prunejob_view.line(item)) != said:
            said = news
            now = datetime.now(UTC)
            typer.echo(f"{now.astimezone():%H:%M:%S}  {prunejob_view.line(item, now)}")
            sys.stdout.flush()

    return show
