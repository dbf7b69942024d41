"""A disk without room: nothing torn, and a sentence that says what to do. The limit on files is the real one."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from coppice_pruner.errors import PrunerError
from coppice_pruner.storage import open_place
from coppice_pruner.storage.durable import full_disk


@contextmanager
def files_at_most(size_bytes: int) -> Iterator[None]:
    """Have the operating system refuse to let any file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    directory = tmp_path / "made"
    directory.mkdir()
    (directory / "weights").write_bytes(bytes(100_000))
    (directory / "state.json").write_text("{}")
    return directory


def test_nothing_appears_and_what_was_there_stays(made: Path, tmp_path: Path) -> None:
    place = open_place(f"file://{tmp_path}/runs", field="x", claim_mounts={})
    place.publish(made, "0001", last="state.json")
    place.write("report.json", b"before")
    (made / "weights").write_bytes(bytes(200_000))
    with files_at_most(50_000):
        with pytest.raises(PrunerError, match=r"cannot write .*0002: .*File too large") as publishing:
            place.publish(made, "0002", last="state.json")
        with pytest.raises(PrunerError, match=r"cannot write .*report\.json: .*File too large"):
            place.write("report.json", bytes(60_000))
    assert "0002" not in place.names()
    assert place.read("report.json") == b"before"
    assert place.read("0001/weights") == bytes(100_000)
    assert "Free space there" in full_disk(publishing.value, ())
    place.sweep()
    assert place.names() == ("0001", "report.json")


def test_a_library_that_writes_by_itself_is_understood_too(tmp_path: Path) -> None:
    with files_at_most(10_000), pytest.raises(Exception, match="File too large") as found:
        save_file({"weight": torch.zeros(100_000)}, tmp_path / "model.safetensors")
    assert not isinstance(found.value, OSError)
    assert "goes on from its last checkpoint" in full_disk(found.value, (tmp_path,))


def test_the_error_behind_an_error_counts() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/work/model.pt2")
        except OSError as error:
            raise RuntimeError("the archive cannot be written") from error
    except RuntimeError as error:
        assert full_disk(error, ()).startswith("/work/model.pt2 cannot be written: No space left on device.")


def test_other_errors_are_not_taken_for_it(tmp_path: Path) -> None:
    assert full_disk(ValueError("shape mismatch"), (tmp_path,)) == ""


def test_leftovers_of_killed_writes_are_swept_and_nothing_else(tmp_path: Path) -> None:
    place = open_place(f"file://{tmp_path}", field="x", claim_mounts={})
    for name in (".coppice-aside-model-x1", "checkpoints/.coppice-aside-0001-x2", ".snapshot", "checkpoints/0001"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "weights").write_bytes(b"x")
    (tmp_path / ".coppice-aside-report.json-12").write_bytes(b"")
    place.sweep()
    assert place.names() == (".snapshot", "checkpoints")
    assert place.under("checkpoints").names() == ("0001",)
