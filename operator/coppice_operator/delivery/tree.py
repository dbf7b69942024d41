"""One file of a git tree: read it, and write it as new trees. Symlinks and submodules on the way are refused."""

from __future__ import annotations

import stat

from dulwich.object_store import BaseObjectStore
from dulwich.objects import Blob, ObjectID, ShaFile, Tree

from coppice_operator.delivery.errors import FileRefusedError

MAX_FILE_BYTES = 1 << 20
FILE_MODE = 0o100644


def parts_of(path: str) -> tuple[bytes, ...]:
    """Return the parts of strategy.git.path.

    Raises:
        FileRefusedError: If it leads out of the repository or into .git.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" or "\0" in part for part in parts):
        raise FileRefusedError(
            "strategy.git.path is relative to the repository's root, without empty parts, '.', '..' or '.git'"
        )
    return tuple(part.encode() for part in parts)


def read_file(store: BaseObjectStore, tree: ObjectID, path: str) -> str | None:
    """Return the text of a file in a tree, or None where there is none.

    Raises:
        FileRefusedError: If it, or a part of its path, is a symlink, a submodule or of the wrong kind, or it is too
            large or no UTF-8.
    """
    found = _find(store, tree, parts_of(path))
    if found is None:
        return None
    blob = store[found[1]]
    assert isinstance(blob, Blob)
    if blob.raw_length() > MAX_FILE_BYTES:
        raise FileRefusedError(f"the file at strategy.git.path has more than {MAX_FILE_BYTES} bytes")
    try:
        # Not str(): line ends stay what they are.
        return blob.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileRefusedError("the file at strategy.git.path is not UTF-8") from error


def write_file(store: BaseObjectStore, tree: ObjectID, path: str, text: str) -> tuple[ObjectID, list[ShaFile]]:
    """Return the tree with a file's new text, and the objects that are new.

    Raises:
        FileRefusedError: As `read_file`.
    """
    parts = parts_of(path)
    found = _find(store, tree, parts)
    blob = Blob.from_string(text.encode())
    made: list[ShaFile] = [blob]
    trees: list[Tree] = []
    node: ObjectID | None = tree
    for part in parts[:-1]:
        current = _tree(store, node)
        trees.append(current)
        node = current[part][1] if part in current else None
    trees.append(_tree(store, node))
    child, mode = blob.id, found[0] if found else FILE_MODE
    for current, part in zip(reversed(trees), reversed(parts), strict=True):
        current.add(part, mode, child)
        made.append(current)
        child, mode = current.id, stat.S_IFDIR
    return child, made


def _tree(store: BaseObjectStore, sha: ObjectID | None) -> Tree:
    if sha is None:
        return Tree()
    tree = store[sha]
    assert isinstance(tree, Tree)
    copied = tree.copy()
    assert isinstance(copied, Tree)
    return copied


def _find(store: BaseObjectStore, tree: ObjectID, parts: tuple[bytes, ...]) -> tuple[int, ObjectID] | None:
    mode, sha = stat.S_IFDIR, tree
    for depth, part in enumerate(parts):
        current = store[sha]
        assert isinstance(current, Tree)
        if part not in current:
            return None
        mode, sha = current[part]
        last = depth == len(parts) - 1
        if not (stat.S_ISREG(mode) if last else stat.S_ISDIR(mode)):
            shown = b"/".join(parts[: depth + 1]).decode(errors="replace")
            kind = "a file" if last else "a directory"
            raise FileRefusedError(f"{shown} in the repository is not {kind}; symlinks are not followed")
    return mode, sha
