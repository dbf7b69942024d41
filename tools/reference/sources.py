"""Sentences that stand under a class's members in its source: what Python itself forgets when it runs."""

from __future__ import annotations

import ast
import inspect
from enum import Enum


def sentences(kind: type[Enum]) -> dict[str, str]:
    """Return what is written under each member of an enum, by the member's name.

    Raises:
        ValueError: If a member has nothing under it.
    """
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for node, following in zip(definition.body, [*definition.body[1:], None], strict=True):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        text = following.value if isinstance(following, ast.Expr) else None
        if not isinstance(text, ast.Constant) or not isinstance(text.value, str):
            raise ValueError(f"{kind.__name__}.{node.targets[0].id} has no sentence under it")
        found[node.targets[0].id] = " ".join(text.value.split())
    return found
