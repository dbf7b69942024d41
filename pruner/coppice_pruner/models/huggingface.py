"""Image classifiers in Hugging Face's layout: config.json + model.safetensors, nothing that runs code of its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models.loaded import LoadedModel

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
SOURCE = "transformers://image-classification"


class _Logits(nn.Module):
    """A classifier of transformers, giving its logits alone."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        logits = self.classifier(pixel_values=x).logits
        assert isinstance(logits, Tensor)
        return logits


def image_classification(*, config: dict[str, Any]) -> nn.Module:
    """Return an image classifier of transformers with random weights.

    Args:
        config: The content of config.json.

    Raises:
        ValueError: If transformers knows no image classifier of that model_type.
    """
    try:
        from transformers import AutoConfig, AutoModelForImageClassification
    except ImportError as error:
        raise InputRefusedError("a Hugging Face model needs the extra: pip install 'coppice[hf]'") from error
    settings = {key: value for key, value in config.items() if key != "model_type"}
    if any("auto_map" in key for key in settings):
        raise ValueError("config.json names code of its own (auto_map), which is never run")
    loaded = AutoConfig.for_model(str(config.get("model_type")), **settings)
    classifier: nn.Module = AutoModelForImageClassification.from_config(  # type: ignore[no-untyped-call]
        loaded, trust_remote_code=False
    )
    return _Logits(classifier)


def load_huggingface(directory: Path, *, sha256: str | None = None) -> LoadedModel:
    """Return the model of a Hugging Face directory.

    Args:
        directory: Holds config.json and model.safetensors.
        sha256: Digest of model.safetensors that is pinned; None accepts any.

    Raises:
        InputRefusedError: If a file is missing, damaged, not what was pinned, or no image classifier.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights = directory / WEIGHTS_NAME
    if not weights.is_file():
        raise InputRefusedError(
            f"{directory}: {WEIGHTS_NAME} is missing; save the model with save_pretrained(safe_serialization=True). "
            "Weights in a pickle (pytorch_model.bin) are never loaded"
        )
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if sha256 is not None and digest != sha256:
        raise InputRefusedError(f"spec.model.sha256 is {sha256}, but {weights} has digest {digest}")
    try:
        config = json.loads((directory / CONFIG_NAME).read_bytes())
        module = image_classification(config=config)
        module.get_submodule("classifier").load_state_dict(load_file(weights), strict=True)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputRefusedError(f"{directory} is not an image classifier this version can load: {error}") from error
    size = config.get("image_size")
    if size is None:
        raise InputRefusedError(
            f"{directory / CONFIG_NAME}: add image_size, the height (and width) of the images the model is served with"
        )
    height, width = size if isinstance(size, list) else (size, size)
    classes = tuple(str(label) for label in config.get("id2label", {}).values())
    return LoadedModel(
        module.eval(),
        ArchitectureSource(source=SOURCE, arguments={"config": config}),
        (InputSpec(shape=(int(config.get("num_channels", 3)), int(height), int(width))),),
        classes,
        sha256=digest,
    )
