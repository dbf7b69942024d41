"""The kustomize component: a file wholly ours, one strategic merge patch a target, the same bytes for the same content.

A person puts an empty one there (`kind: Component`, `patches: []`) and names its directory in `components:`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from coppice_operator.delivery.change import Edit
from coppice_operator.delivery.errors import FileRefusedError
from coppice_operator.delivery.nesting import YAML_ERRORS, shallow

API_VERSION = "kustomize.config.k8s.io/v1alpha1"
HEADER = "# Written by Coppice, wholly: what is changed by hand is lost with the next rollout.\n"

Entries = dict[tuple[str, str], str]
"""Patches by (kind, name), as text."""


def read(text: str) -> Entries:
    """Return the patches of a component.

    Raises:
        FileRefusedError: If the file holds anything that is not ours.
    """
    try:
        document = YAML(typ="safe", pure=True).load(shallow(text))
    except YAML_ERRORS as error:
        raise FileRefusedError(f"the file at strategy.git.path is not YAML: {_short(error)}") from error
    if document is None:
        return {}
    fields = set(document) if isinstance(document, Mapping) else set()
    if not {"kind"} <= fields <= {"apiVersion", "kind", "patches"} or document["kind"] != "Component":
        raise FileRefusedError(
            "the file at strategy.git.path is not a component that is wholly Coppice's: name another file, "
            f"or put one there with `apiVersion: {API_VERSION}`, `kind: Component` and `patches: []`"
        )
    entries: Entries = {}
    found: Any = document.get("patches") or []
    patches: list[Any] = found if isinstance(found, list) else [None]
    for patch in patches:
        try:
            target, body = patch["target"], patch["patch"]
            kind, name = target["kind"], target["name"]
        except (TypeError, KeyError, IndexError) as error:
            raise FileRefusedError("a patch in the file at strategy.git.path is not Coppice's: remove it") from error
        # Not str(): aliases may stand for more text than there is memory.
        if not isinstance(kind, str) or not isinstance(name, str):
            raise FileRefusedError("a patch in the file at strategy.git.path is not Coppice's: remove it")
        key = (kind, re.sub(r"\\(.)", r"\1", name))
        if set(patch) != {"target", "patch"} or set(target) != {"kind", "name"} or not isinstance(body, str):
            raise FileRefusedError(
                f"the patch of {key[1]} in the file at strategy.git.path is not Coppice's: remove it"
            )
        entries[key] = body if body.endswith("\n") else body + "\n"
    return entries


def render(entries: Entries) -> str:
    """Return the file for these patches."""
    lines = [HEADER, f"apiVersion: {API_VERSION}\nkind: Component\n"]
    # kustomize refuses a component without any field.
    lines.append("patches:\n" if entries else "patches: []\n")
    for (kind, name), body in sorted(entries.items()):
        # kustomize reads a target's name as a regular expression, anchored.
        pattern = json.dumps(name.replace(".", r"\."))
        lines.append(f"  - target:\n      kind: {kind}\n      name: {pattern}\n    patch: |\n")
        lines += [f"      {line}\n" for line in body.splitlines()]
    return "".join(lines)


def patch(edit: Edit) -> str:
    """Return the patch that gives a target the model."""
    value = json.dumps(edit.value)
    if edit.env is None:
        return (
            f"apiVersion: serving.kserve.io/v1beta1\nkind: {edit.kind}\nmetadata:\n  name: {edit.name}\n"
            f"spec:\n  predictor:\n    model:\n      storageUri: {value}\n"
        )
    return (
        f"apiVersion: apps/v1\nkind: {edit.kind}\nmetadata:\n  name: {edit.name}\n"
        f"spec:\n  template:\n    spec:\n      containers:\n        - name: {edit.container}\n"
        f"          env:\n            - name: {edit.env}\n              value: {value}\n"
    )


class Component:
    """A component under change.

    Args:
        text: The file, or None where there is none yet.
    """

    def __init__(self, text: str | None) -> None:
        self._text = text
        self._entries = read(text) if text is not None else {}
        self._before = dict(self._entries)

    def holds(self, edit: Edit) -> bool:
        """Return whether the target has what the edit gives it."""
        return self._entries.get((edit.kind, edit.name)) == patch(edit)

    def give(self, edit: Edit) -> None:
        """Give the target its model."""
        self._entries[edit.kind, edit.name] = patch(edit)

    def restore(self, edit: Edit, past: Component | None) -> None:
        """Give the target what it had in an earlier state of the file, or what the target held by itself."""
        key = (edit.kind, edit.name)
        if past is not None:
            before = past._entries.get(key)
        else:
            before = None if edit.previous is None else patch(_with_previous(edit))
        if before is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = before

    def text(self, past: Component | None = None) -> str:
        """Return the file; the very bytes of the earlier state where the content is the same again."""
        if self._text is not None and self._entries == self._before:
            return self._text
        if past is not None and past._text is not None and past._entries == self._entries:
            return past._text
        return render(self._entries)


def _with_previous(edit: Edit) -> Edit:
    return Edit(edit.kind, edit.name, edit.container, edit.env, edit.previous or "")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
