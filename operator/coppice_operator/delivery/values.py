"""A values file of somebody else's: one scalar a target is replaced in the text, and no other byte of it.

ruamel.yaml composes the nodes, which know where they stand; nothing is constructed from them and nothing is written
back through a dumper, so comments, order, quotes and indentation stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from coppice_api.modelrollout import GitDelivery
from coppice_operator.delivery.change import Edit
from coppice_operator.delivery.errors import FileRefusedError
from coppice_operator.delivery.nesting import YAML_ERRORS, shallow

TARGET = "$target"


def key_of(git: GitDelivery, target: str) -> tuple[str, ...]:
    """Return the path of a target's value: its own, or `key` with the target's name filled in.

    Raises:
        FileRefusedError: If there is none.
    """
    for entry in git.keys:
        if entry.target == target:
            return tuple(entry.key.split("."))
    if git.key is None:
        raise FileRefusedError(f"strategy.git.keys has no entry for {target}, and there is no strategy.git.key")
    # Divided first: a target's name may have dots.
    return tuple(part.replace(TARGET, target) for part in git.key.split("."))


class Values:
    """A values file under change.

    Args:
        text: The file, or None where there is none.
        git: Where the values stand in it.

    Raises:
        FileRefusedError: If there is no file, or it is not one YAML document.
    """

    def __init__(self, text: str | None, git: GitDelivery) -> None:
        if text is None:
            raise FileRefusedError("there is no file at strategy.git.path: format Values changes one that is there")
        self._text, self._git = text, git
        self._edits: dict[tuple[int, int], str] = {}
        try:
            self._root: Node | None = YAML(typ="safe", pure=True).compose(shallow(text))
        except YAML_ERRORS as error:
            raise FileRefusedError(
                f"the file at strategy.git.path is not one YAML document: {' '.join(str(error).split())[:200]}"
            ) from error

    def holds(self, edit: Edit) -> bool:
        """Return whether the target has what the edit gives it."""
        return bool(self._node(edit).value == edit.value)

    def give(self, edit: Edit) -> None:
        """Give the target its model."""
        self._replace(edit, json.dumps(edit.value))

    def restore(self, edit: Edit, past: Values | None) -> None:
        """Give the target what it had in an earlier state of the file, or what the target held by itself."""
        if past is not None:
            before = past._node(edit)
            self._replace(edit, past._text[before.start_mark.index : before.end_mark.index])
        else:
            self._replace(edit, json.dumps(edit.previous or ""))

    def text(self, past: Values | None = None) -> str:
        """Return the file."""
        text = self._text
        for (start, end), replacement in sorted(self._edits.items(), reverse=True):
            text = text[:start] + replacement + text[end:]
        return text

    def _replace(self, edit: Edit, replacement: str) -> None:
        node = self._node(edit)
        self._edits[node.start_mark.index, node.end_mark.index] = replacement

    def _node(self, edit: Edit) -> ScalarNode:
        path = key_of(self._git, edit.name)
        node: Node | None = self._root
        for depth, part in enumerate(path):
            node = _child(node, part)
            if node is None:
                raise FileRefusedError(
                    f"the file at strategy.git.path has no {'.'.join(path[: depth + 1])}, where the model of "
                    f"{edit.name} belongs: add it with an empty value, or correct strategy.git.key"
                )
        where = ".".join(path)
        if not isinstance(node, ScalarNode) or node.style in ("|", ">"):
            raise FileRefusedError(f"{where} in the file at strategy.git.path is not a text on one line")
        if node.anchor or self._text[node.start_mark.index : node.start_mark.index + 1] in ("&", "!", "*"):
            raise FileRefusedError(
                f"{where} in the file at strategy.git.path is an anchor, an alias or has a tag: write a plain value"
            )
        if node.start_mark.index == node.end_mark.index:
            raise FileRefusedError(f'{where} in the file at strategy.git.path is left empty: write "" there')
        return node


def _child(node: Node | None, part: str) -> Node | None:
    if isinstance(node, MappingNode):
        found: Mapping[str, Node] = {key.value: value for key, value in node.value if isinstance(key, ScalarNode)}
        return found.get(part)
    if isinstance(node, SequenceNode) and part.isdecimal() and int(part) < len(node.value):
        child: Node = node.value[int(part)]
        return child
    return None
