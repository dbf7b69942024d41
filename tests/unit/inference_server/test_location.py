"""From MODEL_URI to a verified directory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from inference_server.errors import RefusedError
from inference_server.location import Location, parse_uri, resolve, verify

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    directory = tmp_path / "claim" / "digits" / "dense"
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text("{}")
    return directory


def test_the_digest_travels_in_the_fragment() -> None:
    location = parse_uri(f"pvc://models/digits#sha256={DIGEST}")
    assert location == Location("pvc://models/digits", DIGEST)
    assert location.label == DIGEST


def test_a_uri_without_a_digest_is_labelled_unverified() -> None:
    assert parse_uri("pvc://models/digits").label == "unverified"


@pytest.mark.parametrize("fragment", ["sha256=abc", f"sha256={DIGEST.upper()}", "main", f"sha1={DIGEST}"])
def test_any_other_fragment_is_refused(fragment: str) -> None:
    with pytest.raises(RefusedError, match="expected #sha256= and 64 lower-case hexadecimal"):
        parse_uri(f"pvc://models/digits#{fragment}")


def test_a_claim_is_looked_up_among_the_mounts(bundle: Path, tmp_path: Path) -> None:
    mounts = {"models": tmp_path / "claim"}
    assert resolve(parse_uri("pvc://models/digits/dense"), mounts, tmp_path) == bundle


def test_a_file_uri_is_taken_as_it_is(bundle: Path, tmp_path: Path) -> None:
    assert resolve(parse_uri(f"file://{bundle}"), {}, tmp_path) == bundle


def test_a_remote_bundle_is_copied(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/bundles/digits/manifest.json", b"{}")
    memory.pipe("/bundles/digits/model.safetensors", b"weights")
    directory = resolve(parse_uri("memory://bundles/digits"), {}, tmp_path)
    assert (directory / "manifest.json").read_bytes() == b"{}"
    assert (directory / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("uri", "want"),
    [
        pytest.param("pvc://other/digits", "claim 'other' is not in CLAIM_MOUNTS (it has: models)", id="claim"),
        pytest.param("pvc://models/../../etc", "the path leaves the claim", id="escape"),
        pytest.param("pvc://models/nothing", "there is no manifest.json in", id="no-bundle"),
        pytest.param("file://host/path", "takes three slashes", id="file-host"),
        pytest.param("digits/dense", "a scheme is expected", id="no-scheme"),
        pytest.param("nosuch://digits/dense", "Protocol not known: nosuch", id="unknown-scheme"),
        pytest.param("memory://gone/digits", "cannot be fetched: FileNotFoundError", id="nothing-there"),
    ],
)
def test_what_cannot_be_resolved_is_refused(uri: str, want: str, tmp_path: Path) -> None:
    (tmp_path / "claim").mkdir()
    with pytest.raises(RefusedError) as refusal:
        resolve(parse_uri(uri), {"models": tmp_path / "claim"}, tmp_path / "scratch")
    assert want in str(refusal.value)


def test_the_digest_is_that_of_the_manifest(bundle: Path) -> None:
    want = hashlib.sha256(b"{}").hexdigest()
    assert verify(parse_uri(f"file://{bundle}#sha256={want}"), bundle) == want
    assert verify(parse_uri(f"file://{bundle}"), bundle) == want


def test_another_digest_is_refused_with_both(bundle: Path) -> None:
    found = hashlib.sha256(b"{}").hexdigest()
    with pytest.raises(RefusedError) as refusal:
        verify(parse_uri(f"file://{bundle}#sha256={DIGEST}"), bundle)
    assert found in str(refusal.value)
    assert DIGEST in str(refusal.value)
