"""Reads a bundle: every digest is checked before a byte of a file is used."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from coppice_api.bundle import (
    BUNDLE_SCHEMA,
    HUGGINGFACE_NAME,
    MANIFEST_NAME,
    WEIGHTS_NAME,
    BundleManifest,
    Quantized,
)
from coppice_pruner.deployment import folded
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models import LoadedModel, build
from coppice_pruner.quantization import QuantizationUnavailableError, quantized
from coppice_pruner.storage.weights import load_weights
from coppice_pruner.surgery import apply_plan

MAX_MANIFEST_BYTES = 64 << 20
"""A plan that keeps a million channels has about 8 MiB."""


class BundleRefusedError(InputRefusedError):
    """The bundle is missing, damaged, not the one asked for, or of another schema."""


def bundle_digest(directory: Path) -> str:
    """Return the digest of a bundle: of its manifest, which names the digest of every other file.

    Raises:
        BundleRefusedError: If there is no manifest.
    """
    try:
        return hashlib.sha256(_manifest_bytes(directory)).hexdigest()
    except OSError as error:
        raise BundleRefusedError(
            f"{directory} is not a bundle: {MANIFEST_NAME} cannot be read ({error.strerror})"
        ) from error


def _manifest_bytes(directory: Path) -> bytes:
    with (directory / MANIFEST_NAME).open("rb") as stream:
        content = stream.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleRefusedError(
            f"{directory}: {MANIFEST_NAME} is larger than any manifest ({MAX_MANIFEST_BYTES} bytes)"
        )
    return content


def read_manifest(directory: Path, *, sha256: str | None = None) -> BundleManifest:
    """Return the manifest of a bundle after checking that every file is what it says.

    Args:
        directory: The bundle.
        sha256: The digest the bundle must have; None accepts any.

    Raises:
        BundleRefusedError: With the file at fault.
    """
    digest = bundle_digest(directory)
    if sha256 is not None and digest != sha256:
        raise BundleRefusedError(f"{directory} has digest {digest}, but {sha256} was asked for")
    try:
        manifest = BundleManifest.model_validate_json(_manifest_bytes(directory))
    except ValidationError as error:
        raise BundleRefusedError(
            f"{directory / MANIFEST_NAME} is not a manifest: {error.errors()[0]['msg']}"
        ) from error
    if manifest.schema_version != BUNDLE_SCHEMA:
        raise BundleRefusedError(
            f"{directory} has schema {manifest.schema_version}; this version reads {BUNDLE_SCHEMA}"
        )
    for name, entry in manifest.files.items():
        # A name with a path in it could reach outside the bundle.
        if not _is_inside(name):
            raise BundleRefusedError(f"{directory}: the manifest names {name!r}, which is not a plain file name")
        try:
            if not (directory / name).resolve().is_relative_to(directory.resolve()):
                raise BundleRefusedError(f"{directory}: {name} is a link that leads out of the bundle")
            size_bytes = (directory / name).stat().st_size
            if size_bytes != entry.size_bytes:
                raise BundleRefusedError(
                    f"{directory}: {name} has {size_bytes} bytes, the manifest says {entry.size_bytes}: it is damaged"
                )
            with (directory / name).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise BundleRefusedError(f"{directory}: {name} cannot be read ({error.strerror})") from error
        if found != entry.sha256:
            raise BundleRefusedError(
                f"{directory}: {name} is damaged: digest {found}, the manifest says {entry.sha256}"
            )
    return manifest


def _is_inside(name: str) -> bool:
    *parents, last = name.split("/")
    plain = bool(last) and "\0" not in last and last not in (".", "..")
    return plain and parents in ([], [HUGGINGFACE_NAME])


@torch.inference_mode(False)
def load_bundle(
    directory: Path | str, *, sha256: str | None = None, trusted_packages: Sequence[str] = ()
) -> LoadedModel:
    """Return the model of a bundle, in eval mode, with the outputs the exporting process had.

    It is an ordinary model even where the caller is in inference mode: it may be trained and pruned further.

    Args:
        directory: The bundle.
        sha256: The digest the bundle must have; None accepts any.
        trusted_packages: Packages whose `python://` factories the manifest may name.

    Raises:
        BundleRefusedError: If the bundle is damaged or not the one asked for.
        ArchitectureRefusedError: If its architecture is unknown or not trusted.
    """
    directory = Path(directory)
    manifest = read_manifest(directory, sha256=sha256)
    if WEIGHTS_NAME not in manifest.files:
        raise BundleRefusedError(f"{directory}: the manifest names no {WEIGHTS_NAME}, so nothing vouches for it")
    try:
        dense = LoadedModel(
            build(manifest.architecture, trusted_packages=trusted_packages),
            manifest.architecture,
            manifest.inputs,
            manifest.classes,
            task=manifest.task,
        )
        module = apply_plan(dense.module, dense.example_inputs(), manifest.pruning_plan)
        if manifest.quantization is not None:
            module = _quantized(module, dense, manifest.quantization, directory)
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        # Numbers that fit no memory, inputs that fit no layer: torch says so in many ways.
        raise BundleRefusedError(f"{directory}: what its manifest describes cannot be built: {error}") from error
    try:
        load_weights(module, load_file(directory / WEIGHTS_NAME))
    except (SafetensorError, ValueError) as error:
        raise BundleRefusedError(f"{directory}: {WEIGHTS_NAME} does not fit its architecture: {error}") from error
    return LoadedModel(
        module.eval(), manifest.architecture, manifest.inputs, manifest.classes, manifest.pruning_plan,
        bundle_digest(directory), manifest.task, manifest.quantization,
    )  # fmt: skip


def _quantized(module: nn.Module, model: LoadedModel, how: Quantized, directory: Path) -> nn.Module:
    """Return the structure that quantized weights belong to: folded first, as when they were made."""
    try:
        return quantized(folded(module, model.example_inputs()), how)
    except QuantizationUnavailableError as error:
        raise BundleRefusedError(
            f"{directory} is quantized ({how.scheme.value}) and needs the package torchao: install coppice[int8]"
        ) from error
