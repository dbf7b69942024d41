"""From MODEL_URI to a directory on this machine, and the digest it must have.

`pvc://claim/path` is looked up among the mounted claims, `file://` is taken as it is, anything else is
copied to a scratch directory through fsspec. The digest travels in the URI's fragment (`#sha256=<hex>`),
where a ModelRollout puts it; `model.py` verifies it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from inference_server.errors import RefusedError

MANIFEST_NAME = "manifest.json"
UNVERIFIED = "unverified"
"""Value of the `digest` label where the URI names no digest."""
SHA256_FRAGMENT = re.compile(r"sha256=([a-f0-9]{64})")


@dataclass(frozen=True)
class Location:
    """A model reference, taken apart."""

    uri: str
    """The URI without its fragment."""
    sha256: str | None
    """Digest the bundle must have; None where the URI names none."""

    @property
    def label(self) -> str:
        """Value of the metrics' `digest` label. Known before the model is: a mismatch serves nothing."""
        return self.sha256 or UNVERIFIED


def parse_uri(model_uri: str) -> Location:
    """Split a model URI into where and which.

    Raises:
        RefusedError: If the fragment is anything else than a sha256 digest.
    """
    uri, _, fragment = model_uri.partition("#")
    if not fragment:
        return Location(uri, None)
    match = SHA256_FRAGMENT.fullmatch(fragment)
    if match is None:
        raise RefusedError(
            f"MODEL_URI ends in #{fragment}: expected #sha256= and 64 lower-case hexadecimal digits, "
            "the digest of the bundle's manifest.json"
        )
    return Location(uri, match.group(1))


def resolve(location: Location, claim_mounts: Mapping[str, Path], scratch: Path) -> Path:
    """Return the bundle's directory on this machine.

    Args:
        location: What to serve.
        claim_mounts: Mount path of every claim a pvc:// URI may name.
        scratch: An empty directory for a copy of what is not on this machine.

    Raises:
        RefusedError: If the URI cannot be resolved, or there is no bundle there.
    """
    parts = urlsplit(location.uri)
    match parts.scheme:
        case "pvc":
            directory = _in_claim(location.uri, parts.netloc, unquote(parts.path), claim_mounts)
        case "file":
            if parts.netloc not in ("", "localhost"):
                raise RefusedError(f"MODEL_URI is {location.uri}: a file:// URI takes three slashes, file:///path")
            directory = Path(unquote(parts.path))
        case "":
            raise RefusedError(f"MODEL_URI is {location.uri}: a scheme is expected, such as pvc:// or file://")
        case _:
            directory = _download(location.uri, scratch)
    if not (directory / MANIFEST_NAME).is_file():
        raise RefusedError(f"{location.uri} is not a bundle: there is no {MANIFEST_NAME} in {directory}")
    return directory


def verify(location: Location, directory: Path) -> str:
    """Return the bundle's digest, the sha256 of its manifest.

    The manifest names the digest of every other file, so checking it and then loading through the manifest
    (`coppice_pruner.load_bundle` does) covers the whole bundle.

    Raises:
        RefusedError: If the URI names another digest.
    """
    found = hashlib.sha256((directory / MANIFEST_NAME).read_bytes()).hexdigest()
    if location.sha256 is not None and found != location.sha256:
        raise RefusedError(
            f"{location.uri} has digest sha256 {found}, MODEL_URI asks for {location.sha256}: "
            "the bundle was changed or replaced. Nothing is served; point MODEL_URI at the bundle meant."
        )
    return found


def _in_claim(uri: str, claim: str, path: str, claim_mounts: Mapping[str, Path]) -> Path:
    if claim not in claim_mounts:
        known = ", ".join(sorted(claim_mounts)) or "none"
        raise RefusedError(
            f"MODEL_URI is {uri}, but claim {claim!r} is not in CLAIM_MOUNTS (it has: {known}): "
            'mount the claim and name it there, for example {"' + claim + '": "/models"}'
        )
    mount = claim_mounts[claim].resolve()
    directory = (mount / path.lstrip("/")).resolve()
    if not directory.is_relative_to(mount):
        raise RefusedError(f"MODEL_URI is {uri}: the path leaves the claim")
    return directory


def _download(uri: str, directory: Path) -> Path:
    try:
        import fsspec
    except ImportError:
        raise RefusedError(f"MODEL_URI is {uri}: fsspec is not installed in this image") from None
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
        filesystem.get(path.rstrip("/") + "/", f"{directory}/", recursive=True)
    except ImportError as error:
        raise RefusedError(f"MODEL_URI is {uri}: {error} (for s3:// install coppice[s3])") from error
    except ValueError as error:
        raise RefusedError(f"MODEL_URI is {uri}: {error}") from error
    # Every filesystem raises its own errors; whatever it is, this pod has no model.
    except Exception as error:
        raise RefusedError(f"{uri} cannot be fetched: {type(error).__name__}: {error}") from error
    return directory
