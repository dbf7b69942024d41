"""Loads the dense model that a spec names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from coppice_api.bundle import MANIFEST_NAME, ArchitectureSource
from coppice_api.prunejob import ModelSource
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.factory import call_factory
from coppice_pruner.models.loaded import LoadedModel
from coppice_pruner.storage import open_place

_FIELD = "spec.model.uri"


def load_model(source: ModelSource, claim_mounts: Mapping[str, str], scratch: Path) -> LoadedModel:
    """Return the model of spec.model.

    Args:
        source: uri and the digest pinned, if any. A directory holds a bundle or a Hugging Face model; torchvision://
            names an architecture and its weights; python:// a factory that returns a module or a `LoadedModel`.
        claim_mounts: Where each claim is mounted.
        scratch: For a copy of what is not local.

    Raises:
        InputRefusedError: If it is none of these, is damaged, or not what was pinned.
    """
    scheme, _, rest = source.uri.partition("://")
    match scheme:
        case "python":
            return _of_factory(source, rest)
        case "torchvision":
            return _of_torchvision(source, claim_mounts, scratch)
        case "timm" | "hf":
            raise InputRefusedError(
                f"{_FIELD} {source.uri}: this version does not load {scheme}:// by itself; save the model with "
                "save_pretrained or as a bundle, and name the directory"
            )
    return _of_directory(source, claim_mounts, scratch)


def trusted_packages(source: ModelSource) -> tuple[str, ...]:
    """Return the packages whose factories may build this model: the one that the spec itself names."""
    scheme, _, rest = source.uri.partition("://")
    return (rest.partition(":")[0].split(".")[0],) if scheme == "python" else ()


def _of_directory(source: ModelSource, claim_mounts: Mapping[str, str], scratch: Path) -> LoadedModel:
    from coppice_pruner.bundle import load_bundle
    from coppice_pruner.models.huggingface import CONFIG_NAME, load_huggingface

    directory = open_place(source.uri, field=_FIELD, claim_mounts=claim_mounts).fetch("", scratch)
    if (directory / MANIFEST_NAME).is_file():
        return load_bundle(directory, sha256=source.sha256)
    if (directory / CONFIG_NAME).is_file():
        return load_huggingface(directory, sha256=source.sha256)
    found = ", ".join(sorted(path.name for path in directory.iterdir())[:5]) or "nothing"
    raise InputRefusedError(
        f"{_FIELD} {source.uri}: neither a bundle ({MANIFEST_NAME}) nor a Hugging Face directory "
        f"({CONFIG_NAME} + model.safetensors); it holds {found}"
    )


def _of_torchvision(source: ModelSource, claim_mounts: Mapping[str, str], scratch: Path) -> LoadedModel:
    from coppice_pruner.models.torchvision import load_torchvision, weights_uri

    parent, _, name = weights_uri(source.uri).rpartition("/")
    place = open_place(parent, field=f"{_FIELD} weights", claim_mounts=claim_mounts)
    weights = place.fetch("", scratch) / name
    if not weights.is_file():
        raise InputRefusedError(f"{_FIELD} {source.uri}: there is no file {weights}")
    return load_torchvision(source.uri, weights, sha256=source.sha256)


def _of_factory(source: ModelSource, reference: str) -> LoadedModel:
    if source.sha256 is not None:
        raise InputRefusedError(
            f"spec.model.sha256: {source.uri} is code of the run image and has no digest; pin the image instead"
        )
    made = call_factory(reference, field=_FIELD)
    if isinstance(made, LoadedModel):
        return made
    if not isinstance(made, nn.Module):
        raise InputRefusedError(
            f"{_FIELD} {source.uri}: the factory gave a {type(made).__name__}; it must return a torch.nn.Module"
        )
    # Its inputs and classes are those of the data, see `run.fit`.
    return LoadedModel(made.eval(), ArchitectureSource(source=source.uri), ())
