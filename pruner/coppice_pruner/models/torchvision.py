"""Architectures of torchvision with weights in safetensors: torchvision://resnet18?weights=file:///models/r18.safetensors"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import torch
from torch import Tensor, nn

from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models.attention import with_separate_heads
from coppice_pruner.models.loaded import LoadedModel

SCHEME = "torchvision"
_NUMBERS = {"classes": "num_classes", "size": "image_size"}


def build_torchvision(name: str, *, num_classes: int = 1000, image_size: int | None = None) -> nn.Module:
    """Return a model of torchvision with random weights and attention whose heads can be removed.

    Args:
        name: As `torchvision.models.list_models()` has it.
        num_classes: Outputs.
        image_size: Height and width for architectures that are built for one (vision transformers).

    Raises:
        ValueError: If torchvision has no such model.
    """
    try:
        from torchvision import models
    except ImportError as error:
        raise InputRefusedError("a torchvision model needs the extra: pip install 'coppice[vision]'") from error
    arguments: dict[str, Any] = {"num_classes": num_classes}
    if image_size is not None and name.startswith("vit_"):
        arguments["image_size"] = image_size
    return with_separate_heads(models.get_model(name, weights=None, **arguments))


def weights_uri(uri: str) -> str:
    """Return where the weights of a torchvision:// URI are.

    Raises:
        InputRefusedError: If it does not say.
    """
    found = parse_qs(urlsplit(uri).query).get("weights")
    if not found:
        raise InputRefusedError(
            f"spec.model.uri {uri}: add ?weights= with the URI of a .safetensors file, for example "
            "?weights=pvc://models/resnet18.safetensors"
        )
    return found[0]


def load_torchvision(uri: str, weights: Path, *, sha256: str | None = None) -> LoadedModel:
    """Return an architecture of torchvision with its weights.

    Args:
        uri: torchvision://<name>?weights=...&classes=...&size=...; the number of classes is read from the weights where
            it is left out, the size of images is 224.
        weights: The file, in safetensors, with torchvision's own parameter names.
        sha256: Digest of the file that is pinned; None accepts any.

    Raises:
        InputRefusedError: If the file does not fit the architecture, or is not what was pinned.
    """
    import hashlib

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    parts = urlsplit(uri)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if sha256 is not None and digest != sha256:
        raise InputRefusedError(f"spec.model.sha256 is {sha256}, but {weights} has digest {digest}")
    try:
        state = load_file(weights)
        classes = int(query.get("classes") or _classes(parts.netloc, state))
        size = int(query.get("size", "224"))
        arguments = {"name": parts.netloc, "num_classes": classes, "image_size": size}
        from torchvision import models

        plain = models.get_model(
            parts.netloc, weights=None, num_classes=classes,
            **({"image_size": size} if parts.netloc.startswith("vit_") else {}),
        )  # fmt: skip
        plain.load_state_dict(state)
    except (ValueError, RuntimeError, KeyError, StopIteration, SafetensorError, ImportError) as error:
        raise InputRefusedError(f"spec.model.uri {uri}: {error}") from error
    return LoadedModel(
        with_separate_heads(plain).eval(),
        ArchitectureSource(source="torchvision://", arguments=arguments),
        (InputSpec(shape=(3, size, size)),),
        tuple(str(index) for index in range(classes)),
        sha256=digest,
    )


def _classes(name: str, state: dict[str, Tensor]) -> int:
    """Return the number of classes that weights were made for. A file's order is the alphabet's, a model's its own."""
    from torchvision import models

    with torch.device("meta"):
        model = models.get_model(name, weights=None)
    # The last parameter is the classifier's in every classifier of torchvision.
    *_, (last, _) = model.named_parameters()
    if last not in state:
        raise ValueError(
            f"the weights have no {last}; they are not those of {name}, or have names that are not torchvision's"
        )
    return len(state[last])
