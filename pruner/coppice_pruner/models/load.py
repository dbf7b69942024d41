"""Loads the dense model that a spec names."""

from __future__ import annotations

from pathlib import Path

from coppice_api.bundle import MANIFEST_NAME
from coppice_api.prunejob import ModelSource
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models.loaded import LoadedModel
from coppice_pruner.storage import Place


def load_model(source: ModelSource, place: Place, scratch: Path) -> LoadedModel:
    """Return the model of spec.model: a bundle, or a Hugging Face directory.

    Args:
        source: uri and the digest pinned, if any.
        place: Where the URI is.
        scratch: For a copy of what is not local.

    Raises:
        InputRefusedError: If it is neither, is damaged, or not what was pinned.
    """
    from coppice_pruner.bundle import load_bundle
    from coppice_pruner.models.huggingface import CONFIG_NAME, load_huggingface

    directory = place.fetch("", scratch)
    if (directory / MANIFEST_NAME).is_file():
        return load_bundle(directory, sha256=source.sha256)
    if (directory / CONFIG_NAME).is_file():
        return load_huggingface(directory, sha256=source.sha256)
    found = ", ".join(sorted(path.name for path in directory.iterdir())[:5]) or "nothing"
    raise InputRefusedError(
        f"spec.model.uri {place.uri}: neither a bundle ({MANIFEST_NAME}) nor a Hugging Face directory "
        f"({CONFIG_NAME} + model.safetensors); it holds {found}"
    )
