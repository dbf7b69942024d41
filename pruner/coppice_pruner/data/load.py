"""Which data set a URI names."""

from __future__ import annotations

from coppice_pruner.data.builtin import digits
from coppice_pruner.data.splits import Splits
from coppice_pruner.errors import InputRefusedError


def load(uri: str, *, sha256: str | None = None) -> Splits:
    """Return the data set that a URI names.

    Raises:
        InputRefusedError: If this version cannot read it, or its digest is not the one pinned.
    """
    if uri != "builtin://digits":
        raise InputRefusedError(f"spec.dataset.uri {uri!r}: this version reads builtin://digits only")
    splits = digits()
    if sha256 is not None and splits.sha256() != sha256:
        raise InputRefusedError(
            f"spec.dataset.sha256 is {sha256}, but {uri} has digest {splits.sha256()}: pin that one, or find out why "
            "the data changed"
        )
    return splits
