"""Bundles, weights and data sets that somebody else made."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coppice_api.bundle import MANIFEST_NAME, WEIGHTS_NAME
from coppice_pruner.bundle import export_bundle, load_bundle
from coppice_pruner.bundle.load import MAX_MANIFEST_BYTES, read_manifest
from coppice_pruner.data.files import load_directory
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.storage import open_place
from tests import machine
from tests.unit.fuzz.foreign import BYTES, EXAMPLES, damaged

MANY = settings(max_examples=EXAMPLES // 4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HOSTILE = ("../../etc/passwd", "/etc/passwd", "huggingface/../x", "a\0b", ".", "", "coppice://vgg", "python://os:system",
           "float32", "int64", "bfloat16", 10**9, [10**6] * 3)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle") / "dense"
    export_bundle(machine.dense_model(epochs=0)[0], directory)
    return directory


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A bundle of a test's own; its large files are links to the same bytes."""
    target = tmp_path / "copy"
    target.mkdir()
    for path in bundle.iterdir():
        if path.name != MANIFEST_NAME:
            os.link(path, target / path.name)
    (target / MANIFEST_NAME).write_bytes((bundle / MANIFEST_NAME).read_bytes())
    return target


def rewrite(directory: Path, **values: Any) -> None:
    path = directory / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@MANY
@given(data=st.data())
def test_a_manifest_with_anything_in_it_is_a_bundle_or_refused(copied: Path, bundle: Path, data: st.DataObject) -> None:
    document = json.loads((bundle / MANIFEST_NAME).read_text())
    (copied / MANIFEST_NAME).write_text(json.dumps(data.draw(damaged(document, *HOSTILE))))
    try:
        load_bundle(copied)
    except InputRefusedError as error:
        assert str(error)


STEP = {"group": "features.0.0", "kept": [0, 1], "width": 16}
INPUT = {"name": "input", "shape": [1, 8, 8], "dtype": "float32"}


@MANY
@given(steps=st.lists(damaged(STEP), max_size=2), inputs=st.lists(damaged(INPUT, *HOSTILE), max_size=2))
def test_a_plan_for_anything_is_carried_out_or_refused(copied: Path, steps: list[Any], inputs: list[Any]) -> None:
    rewrite(copied, pruningPlan=[STEP, *steps], inputs=inputs)
    with pytest.raises(InputRefusedError):
        load_bundle(copied)


@MANY
@given(content=BYTES)
def test_a_manifest_of_any_bytes_is_refused(copied: Path, content: bytes) -> None:
    (copied / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(InputRefusedError):
        read_manifest(copied)


def test_a_manifest_that_is_too_long_is_not_read(copied: Path) -> None:
    with (copied / MANIFEST_NAME).open("wb") as stream:
        stream.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(InputRefusedError, match=r"larger than any manifest"):
        read_manifest(copied)


def test_weights_that_the_manifest_does_not_vouch_for_are_not_loaded(copied: Path) -> None:
    files = json.loads((copied / MANIFEST_NAME).read_text())["files"]
    files.pop(WEIGHTS_NAME)
    rewrite(copied, files=files)
    with pytest.raises(InputRefusedError, match=r"names no model\.safetensors"):
        load_bundle(copied)


@pytest.mark.parametrize("name", ["../dense/x", "/etc/passwd", "huggingface/../../x", "a/b", "..", ""])
def test_a_name_that_leads_out_of_the_bundle_is_refused(copied: Path, name: str) -> None:
    files = json.loads((copied / MANIFEST_NAME).read_text())["files"]
    rewrite(copied, files={**files, name: {"sha256": "0" * 64, "sizeBytes": 1}})
    with pytest.raises(InputRefusedError, match="not a plain file name"):
        read_manifest(copied)


def test_a_link_that_leads_out_of_the_bundle_is_refused(copied: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((copied / WEIGHTS_NAME).read_bytes())
    (copied / WEIGHTS_NAME).unlink()
    (copied / WEIGHTS_NAME).symlink_to(secret)
    with pytest.raises(InputRefusedError, match="leads out of the bundle"):
        read_manifest(copied)


def test_a_file_of_another_size_is_refused_before_it_is_read(copied: Path) -> None:
    # A terabyte that takes no space: reading it would take minutes.
    (copied / "model.onnx").unlink()
    with (copied / "model.onnx").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(InputRefusedError, match=r"model\.onnx has 1099511627776 bytes"):
        read_manifest(copied)


def header(document: Any, length: int | None = None) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * 64


TENSOR = {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}


@MANY
@given(
    content=st.one_of(
        BYTES, BYTES.map(header),
        damaged(TENSOR, 2**63, [2**40], [64, 0], "BF16").map(header),
        st.integers(0, 2**64 - 1).map(lambda length: header(TENSOR, length)),
    )
)  # fmt: skip
def test_weights_of_any_bytes_are_refused(copied: Path, content: bytes) -> None:
    (copied / WEIGHTS_NAME).unlink()
    (copied / WEIGHTS_NAME).write_bytes(content)
    files = json.loads((copied / MANIFEST_NAME).read_text())["files"]
    digest = hashlib.sha256(content).hexdigest()
    rewrite(copied, files={**files, WEIGHTS_NAME: {"sha256": digest, "size_bytes": len(content)}})
    with pytest.raises(InputRefusedError):
        load_bundle(copied)


def test_an_archive_that_would_unpack_to_more_than_the_memory_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("train_inputs", "train_targets", "evaluation_inputs", "evaluation_targets")
    np.savez_compressed(tmp_path / "data.npz", **{name: np.zeros(1 << 20) for name in names})
    assert (tmp_path / "data.npz").stat().st_size < 1 << 17
    # A machine of 16 MiB; the arrays have 32.
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 4096, "SC_PAGE_SIZE": 4096}.__getitem__)
    monkeypatch.setattr("numpy.load", None)
    with pytest.raises(InputRefusedError, match=r"would take 0\.0 GiB unpacked"):
        load_directory(tmp_path)


@MANY
@given(content=st.one_of(BYTES, st.binary(max_size=200).map(lambda rest: b"PK\x03\x04" + rest)))
def test_arrays_of_any_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("data.npz", "data.safetensors"):
        directory = tmp_path / name.partition(".")[2]
        directory.mkdir(exist_ok=True)
        (directory / name).write_bytes(content)
        with pytest.raises(InputRefusedError):
            load_directory(directory)


def test_keys_of_a_bucket_that_lead_out_of_the_prefix_are_refused(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/fuzz/model/manifest.json", b"{}")
    memory.pipe_file("/fuzz/model/../../../escaped", b"x")
    try:
        place = open_place("memory://fuzz", field="spec.model.uri", claim_mounts={})
        with pytest.raises(InputRefusedError, match="leads out of"):
            place.fetch("model", tmp_path / "deep" / "scratch")
        assert not list(tmp_path.rglob("escaped"))
    finally:
        memory.store.clear()
