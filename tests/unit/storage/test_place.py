"""Directories by URI: on a disk, in a claim, and in a store that is neither (fsspec's memory file system)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.storage import Place, open_place


@pytest.fixture(params=["file", "pvc", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    uri = {"file": f"file://{tmp_path}/prefix", "pvc": "pvc://models/prefix", "memory": "memory://bucket/prefix"}
    yield open_place(uri[request.param], field="spec.output.uri", claim_mounts={"models": str(tmp_path)})
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    directory = tmp_path / "made"
    directory.mkdir()
    (directory / "manifest.json").write_text("{}")
    (directory / "weights").write_bytes(b"\x00\x01")
    return directory


def test_what_is_published_can_be_fetched(place: Place, bundle: Path, tmp_path: Path) -> None:
    place.publish(bundle, "model", last="manifest.json")
    found = place.fetch("model", tmp_path / "scratch")
    assert {path.name: path.read_bytes() for path in found.iterdir()} == {
        "manifest.json": b"{}",
        "weights": b"\x00\x01",
    }
    assert "model" in place.names()


def test_publishing_again_replaces(place: Place, bundle: Path) -> None:
    place.publish(bundle, "model", last="manifest.json")
    (bundle / "manifest.json").write_text("{1}")
    place.publish(bundle, "model", last="manifest.json")
    assert place.read("model/manifest.json") == b"{1}"
    assert [name for name in place.names() if name != "made"] == ["model"]


def test_files_are_written_read_and_missed(place: Place) -> None:
    assert place.read("report.json") is None
    place.write("report.json", b"1")
    place.write("report.json", b"2")
    assert place.read("report.json") == b"2"


def test_a_place_under_a_place(place: Place, bundle: Path) -> None:
    place.publish(bundle, "checkpoints/0001", last="manifest.json")
    assert place.under("checkpoints").names() == ("0001",)
    place.remove("checkpoints/0001")
    place.remove("checkpoints/0001")
    assert place.under("checkpoints").names() == ()


def test_fetching_nothing_names_the_uri(place: Place, tmp_path: Path) -> None:
    with pytest.raises(InputRefusedError, match=r"prefix/model: there is no"):
        place.fetch("model", tmp_path / "scratch")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models/digits", "is not a URI"),
        ("file://models/digits", "absolute path"),
        ("pvc://other/digits", "--claim other=DIRECTORY"),
        ("pvc://models/../../etc", "must stay inside the claim"),
        ("nonsense://x/y", "nonsense"),
    ],
)
def test_a_uri_that_cannot_be_used_is_refused_with_its_field(uri: str, message: str) -> None:
    with pytest.raises(InputRefusedError, match=f"spec.model.uri.*{message}"):
        open_place(uri, field="spec.model.uri", claim_mounts={"models": "/models"})


def test_a_failed_publication_leaves_nothing(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_place(f"file://{tmp_path}/prefix", field="x", claim_mounts={})

    def full(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("coppice_pruner.storage.place.shutil.copytree", full)
    with pytest.raises(KeyboardInterrupt):
        place.publish(bundle, "model", last="manifest.json")
    assert place.names() == ()
