"""A URI prefix that directories are read from and published to, through fsspec.

`file://` and `pvc://` are directories of this machine and used where they are; anything else fsspec knows is copied.
A directory appears with its last file: on a disk by a rename, elsewhere because the file that names the others
(manifest.json, state.json) is uploaded after them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from coppice_pruner.errors import InputRefusedError, PrunerError
from coppice_pruner.storage.durable import sync, sync_directory

_ASIDE = ".coppice-aside-"
"""Begins the names of what is not whole yet."""


class Place:
    """One prefix.

    Args:
        uri: As the user wrote it.
        filesystem: fsspec's, None for this machine's disk.
        root: Path on that filesystem.
    """

    def __init__(self, uri: str, filesystem: Any | None, root: str) -> None:
        self.uri = uri.rstrip("/")
        self._filesystem = filesystem
        self._root = root.rstrip("/") or "/"

    def names(self) -> tuple[str, ...]:
        """Return the names of what lies directly under the prefix, in order; empty when it does not exist."""
        if self._filesystem is None:
            directory = Path(self._root)
            return tuple(sorted(item.name for item in directory.iterdir())) if directory.is_dir() else ()
        with self._storage("list", ""):
            self._filesystem.invalidate_cache()
            try:
                found = self._filesystem.ls(self._root, detail=False)
            except FileNotFoundError:
                return ()
        return tuple(sorted({PurePosixPath(item.rstrip("/")).name for item in found}))

    def under(self, name: str) -> Place:
        """Return the place below this one."""
        return Place(f"{self.uri}/{name}", self._filesystem, self._path(name))

    def fetch(self, name: str, scratch: Path) -> Path:
        """Return a local directory with what lies under a name; copied to `scratch` unless it is local already.

        Raises:
            InputRefusedError: If there is nothing.
            PrunerError: If the storage fails, which may pass.
        """
        if self._filesystem is None:
            directory = Path(self._root) / name if name else Path(self._root)
            if not directory.is_dir():
                raise InputRefusedError(f"{self._named(name)}: there is no directory {directory}")
            return directory
        target = Path(tempfile.mkdtemp(dir=_made(scratch), prefix="fetched-"))
        with self._storage("read", name):
            if not self._filesystem.isdir(self._path(name)):
                raise InputRefusedError(f"{self._named(name)}: there is no such directory")
            for found in self._filesystem.find(self._path(name)):
                # A bucket's keys are any text, and this one would be a path on our disk.
                if ".." in PurePosixPath(found.removeprefix(self._path(name))).parts:
                    raise InputRefusedError(f"{self._named(name)}: the key {found!r} leads out of the directory")
            self._filesystem.get(self._path(name) + "/", str(target) + "/", recursive=True)
        return target

    def publish(self, directory: Path, name: str, *, last: str) -> None:
        """Copy a directory to a name, whole or not at all. What is there already under that name is replaced.

        Args:
            directory: Local.
            name: Under the prefix.
            last: The file that makes the rest valid, written after all others.

        Raises:
            PrunerError: If the storage fails.
        """
        with self._storage("write", name):
            if self._filesystem is None:
                self._publish_local(directory, name)
                return
            files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
            for relative in sorted(files, key=lambda item: (item == last, item)):
                self._filesystem.put_file(str(files[relative]), f"{self._path(name)}/{relative}")

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None when there is none."""
        with self._storage("read", name):
            try:
                if self._filesystem is None:
                    return (Path(self._root) / name).read_bytes()
                return bytes(self._filesystem.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write one file in one step."""
        with self._storage("write", name):
            if self._filesystem is not None:
                self._filesystem.pipe_file(self._path(name), content)
                return
            target = _made(Path(self._root)) / name
            aside = target.with_name(f"{_ASIDE}{target.name}-{os.getpid()}")
            with aside.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(target)
            sync(target.parent)

    def sweep(self) -> None:
        """Remove what a process that was killed in the middle of `publish` or `write` has left under the prefix.

        Nobody else may be writing there.
        """
        if self._filesystem is not None:
            return
        for directory in (Path(self._root), *_directories(Path(self._root))):
            for leftover in directory.glob(f"{_ASIDE}*"):
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a directory or a file; nothing happens when there is none."""
        if self._filesystem is None:
            local = Path(self._root) / name
            if local.is_dir():
                shutil.rmtree(local, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    local.unlink()
            return
        with self._storage("remove", name), contextlib.suppress(FileNotFoundError):
            self._filesystem.rm(self._path(name), recursive=True)

    def _publish_local(self, directory: Path, name: str) -> None:
        target = Path(self._root) / name
        aside = Path(tempfile.mkdtemp(dir=_made(target.parent), prefix=f"{_ASIDE}{target.name}-"))
        try:
            shutil.copytree(directory, aside, dirs_exist_ok=True)
            sync_directory(aside)
            # Readers run as other users.
            aside.chmod(0o755)
            if target.exists():
                old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{_ASIDE}{target.name}-old-"))
                target.rename(old / "old")
                aside.rename(target)
                shutil.rmtree(old)
            else:
                aside.rename(target)
            sync(target.parent)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _named(self, name: str) -> str:
        return f"{self.uri}/{name}" if name else self.uri

    @contextlib.contextmanager
    def _storage(self, verb: str, name: str) -> Iterator[None]:
        """Say of a storage that fails what was asked of it."""
        try:
            yield
        except PrunerError:
            raise
        except Exception as error:
            # Drivers raise errors of their own for a store that is not reached or refuses its credentials.
            if self._filesystem is None and not isinstance(error, OSError):
                raise
            raise PrunerError(f"cannot {verb} {self._named(name)}: {error}") from error


def open_place(uri: str, *, field: str, claim_mounts: Mapping[str, str]) -> Place:
    """Return the place a URI names.

    Args:
        uri: file://, pvc://claim/path, s3:// and whatever else fsspec has a driver for.
        field: Field of the spec the URI came from, for messages.
        claim_mounts: Where each claim is mounted.

    Raises:
        InputRefusedError: If the URI cannot be used here; the message names the field.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        raise InputRefusedError(f"{field} {uri!r} is not a URI: write file://, pvc://claim/path or s3://bucket/path")
    if scheme == "file":
        if not rest.startswith("/"):
            raise InputRefusedError(f"{field} {uri!r}: a file URI has an absolute path, such as file:///{rest}")
        return Place(uri, None, rest)
    if scheme == "pvc":
        claim, _, path = rest.partition("/")
        if claim not in claim_mounts:
            raise InputRefusedError(
                f"{field} {uri!r}: the claim {claim!r} is not mounted here; with `coppice run` give "
                f"--claim {claim}=DIRECTORY"
            )
        parts = PurePosixPath(path).parts
        if ".." in parts or path.startswith("/"):
            raise InputRefusedError(f"{field} {uri!r}: the path must stay inside the claim")
        return Place(uri, None, str(Path(claim_mounts[claim], *parts)))
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise InputRefusedError(
            f"{field} {uri!r}: {error}; install the driver in the run image (the extra s3 brings s3://)"
        ) from error
    return Place(uri, filesystem, str(root))


def _directories(root: Path) -> tuple[Path, ...]:
    return tuple(item for item in root.iterdir() if item.is_dir()) if root.is_dir() else ()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
