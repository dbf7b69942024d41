"""Paths of a container on a machine without mount namespaces. Pure.

A process node needs no root, so nothing can be mounted at /models. Each mount gets a directory of its own, and where
the container is told of the mount's path (command, arguments, environment, JSON inside these) it is told of that
directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_.\-]*)\))")


def rewrite(text: str, directories: Mapping[str, str]) -> str:
    """Return a text with every mount path replaced, longest first; `file:///models/x` counts, `a/models` does not.

    A text that names a real directory already keeps it, even when that lies below a mount path such as /tmp.

    Args:
        text: A word of a command, or the value of a variable.
        directories: Real directory by mount path.
    """
    real = {path.rstrip("/"): directory.rstrip("/") for path, directory in directories.items() if path.rstrip("/")}
    if not real:
        return text
    known = {directory: directory for directory in real.values()} | real
    paths = sorted(known, key=len, reverse=True)
    pattern = re.compile(
        r"(?:(?<=file://)|(?<![\w.\-/]))(" + "|".join(re.escape(path) for path in paths) + r")(?![\w.\-])"
    )
    return pattern.sub(lambda match: known[match[1]], text)


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Return a text with $(NAME) replaced as Kubernetes does: unknown names stay, $$ is one dollar."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return environment.get(match[2], match[0])

    return _VARIABLE.sub(value, text)
