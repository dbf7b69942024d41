"""Making sure that what was written is there after a crash, and saying so when a disk has no room for it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SCARCE_BYTES = 1 << 20


def sync_directory(directory: Path) -> None:
    """Have the disk hold every file under a directory, and the directories themselves, before returning."""
    for parent, _, names in os.walk(directory, topdown=False):
        for name in names:
            sync(Path(parent) / name)
        sync(Path(parent))


def sync(path: Path) -> None:
    """Have the disk hold a file's content, or a directory's names, before returning."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def full_disk(error: BaseException, directories: Iterable[Path]) -> str:
    """Return what to do about a disk that an error shows to be full, for a person; empty if it shows no such thing.

    Args:
        error: What went wrong. Libraries that write by themselves (safetensors, torch) do not give an `OSError`, so the
            errors behind it and the free space of the disks are looked at too.
        directories: Where the run writes.
    """
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.errno in _FULL:
            return _advice(behind.filename2 or behind.filename or "the disk", os.strerror(behind.errno))
        if any(os.strerror(number) in str(behind) for number in _FULL):
            return _advice("the disk", str(behind))
        behind = behind.__cause__ or behind.__context__
    for directory in directories:
        if directory.is_dir() and shutil.disk_usage(directory).free < _SCARCE_BYTES:
            return _advice(directory, f"no space is left ({error})")
    return ""


def _advice(place: object, found: str) -> str:
    return (
        f"{place} cannot be written: {found}. Free space there or give the run a larger volume; run again, it goes on "
        "from its last checkpoint"
    )
