"""docs/reference/commands.md: what `coppice COMMAND --help` says, for every command."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from coppice_cli.main import app
from reference.markdown import code, plain, table

_VALUES: dict[Any, str] = {int: "number", float: "number", Path: "path"}
_INTRODUCTION = """\
# The `coppice` command

Generated from the program by `make reference`; `coppice COMMAND --help` says the same. [Exit status](exit-codes.md).

`pip install coppice` brings `validate` and the types; the extras bring the rest: `coppice[pruner]` what runs models,
`coppice[cluster]` what talks to a cluster, `coppice[operator]` the operator.
"""


def page() -> str:
    """Return the page."""
    parts = [_INTRODUCTION.strip()]
    for name, command in commands("coppice", typer.main.get_command(app)):
        parts += [f"## {name}", plain(command.help or ""), f"    {usage(name, command)}"]
        options = [option for option in command.params if not option.hidden]
        if options:
            parts.append(
                table(("Argument or option", "Value", "Default", "Meaning"), [row(option) for option in options])
            )
    return "\n\n".join(part for part in parts if part) + "\n"


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Give every command that does something, in the order of --help, with its whole name."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for part, child in inner.items():
        yield from commands(f"{name} {part}", child)


def usage(name: str, command: Any) -> str:
    """Return how it is called."""
    words = [name]
    for option in command.params:
        if option.param_type_name == "argument":
            words.append(option.name.upper() if option.required else f"[{option.name.upper()}]")
        elif option.required:
            words.append(f"{option.opts[0]} {option.name.upper()}")
    return " ".join(words) + (" [OPTIONS]" if any(not option.required for option in command.params) else "")


def row(option: Any) -> tuple[str, str, str, str]:
    """Return the row of one argument or option."""
    names = [option.name.upper()] if option.param_type_name == "argument" else [*option.opts, *option.secondary_opts]
    said = ", ".join(code(name) for name in names) + (" **required**" if option.required else "")
    return said, plain(value(option)), default(option), plain(option.help or "")


def value(option: Any) -> str:
    """Return what an option takes: nothing, a kind of value, or one of some words."""
    kind = option.type_descriptor.annotation
    if kind is bool:
        return ""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(code(str(member.value)) for member in kind)
    return str(option.metavar or _VALUES.get(kind, "text"))


def default(option: Any) -> str:
    """Return the default, where there is one."""
    found = getattr(option.default, "value", option.default)
    return "" if found in (None, False, []) else code(str(found))
