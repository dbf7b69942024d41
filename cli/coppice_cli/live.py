"""One object as it changes: one picture in a terminal, a line a change where there is none."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import typer
from rich.console import RenderableType
from rich.live import Live

from coppice_cli.prunejob_view import console
from coppice_cli.wording import JsonObject

Show = Callable[[JsonObject], None]
View = Callable[[JsonObject, datetime], RenderableType]
Line = Callable[[JsonObject, datetime | None], str]


@contextlib.contextmanager
def live(view: View, line: Line) -> Iterator[Show]:
    """Give what shows each version of an object.

    Args:
        view: The picture of an object.
        line: The same in one line; without a time, what makes another line worth printing.
    """
    if sys.stdout.isatty():
        with _screen(view) as show:
            yield show
    else:
        yield _lines(line)


@contextlib.contextmanager
def _screen(view: View) -> Iterator[Show]:
    held: list[JsonObject] = []

    def picture() -> RenderableType:
        return view(held[0], datetime.now(UTC)) if held else ""

    # Drawn anew every second, so that the time that is left runs down.
    with Live(get_renderable=picture, console=console(), refresh_per_second=1) as drawn:

        def show(item: JsonObject) -> None:
            held[:] = [item]
            drawn.refresh()

        yield show


def _lines(line: Line) -> Show:
    said = ""

    def show(item: JsonObject) -> None:
        nonlocal said
        if (news := line(item, None)) != said:
            said = news
            now = datetime.now(UTC)
            typer.echo(f"{now.astimezone():%H:%M:%S}  {line(item, now)}")
            sys.stdout.flush()

    return show
