"""Which data set a URI names."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs

from coppice_pruner.data.builtin import BUILTIN
from coppice_pruner.data.files import load_directory
from coppice_pruner.data.splits import Splits
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.factory import call_factory
from coppice_pruner.storage import open_place

_FIELD = "spec.dataset.uri"


def load(
    uri: str,
    *,
    sha256: str | None = None,
    claim_mounts: Mapping[str, str] | None = None,
    scratch: Path | None = None,
) -> Splits:
    """Return the data set that a URI names.

    Args:
        uri: builtin://digits, shapes100, topics or prose; python://package.module:factory, which returns `Splits`; or a
            directory under file://, pvc://, s3:// and so on, see `files.load_directory`.
        sha256: The digest that is pinned; None accepts any.
        claim_mounts: Where each claim is mounted.
        scratch: Where a copy of what is not local is made, and removed; that of the system where None.

    Raises:
        InputRefusedError: If it cannot be read, or its digest is not the one pinned.
    """
    splits = _read(uri, claim_mounts or {}, scratch)
    if sha256 is not None and splits.sha256() != sha256:
        raise InputRefusedError(
            f"spec.dataset.sha256 is {sha256}, but {uri} has digest {splits.sha256()}: pin that one, or find out why "
            "the data changed"
        )
    return splits


def _read(uri: str, claim_mounts: Mapping[str, str], scratch: Path | None) -> Splits:
    scheme, _, rest = uri.partition("://")
    if scheme == "builtin":
        if rest not in BUILTIN:
            known = ", ".join(f"builtin://{name}" for name in BUILTIN)
            raise InputRefusedError(f"{_FIELD} {uri!r}: unknown; there are {known}")
        return BUILTIN[rest]()
    if scheme == "python":
        splits = call_factory(rest, field=_FIELD)
        if not isinstance(splits, Splits):
            raise InputRefusedError(
                f"{_FIELD} {uri}: the factory gave a {type(splits).__name__}; it must return coppice_pruner.data.Splits"
            )
        return splits
    path, _, query = uri.partition("?")
    size = parse_qs(query).get("size", [None])[0]
    if size is not None and (not size.isdecimal() or int(size) == 0):
        raise InputRefusedError(f"{_FIELD} {uri}: size is {size!r}; it is the height and width of images in pixels")
    place = open_place(path, field=_FIELD, claim_mounts=claim_mounts)
    # What is read is in memory, so the copy of what is not local goes as soon as it is.
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="coppice-data-") as aside:
        directory = place.fetch("", Path(aside))
        return load_directory(directory, field=f"{_FIELD} {uri}", size=int(size) if size else None)
