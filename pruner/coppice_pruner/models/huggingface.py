"""Models in Hugging Face's layout: config.json + model.safetensors, nothing that runs code of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models.loaded import LoadedModel
from coppice_pruner.storage.weights import load_weights
from coppice_pruner.tasks import CAUSAL_LANGUAGE_MODELING, IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, Task

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


class _Logits(nn.Module):
    """A model of transformers, giving its logits alone."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier


class _ImageClassifier(_Logits):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(pixel_values=x).logits
        return logits


class _TextClassifier(_Logits):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.classifier(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


class _LanguageModel(_Logits):
    def forward(self, input_ids: Tensor) -> Tensor:
        # A cache is for generating; here whole sequences are judged at once.
        logits: Tensor = self.classifier(input_ids=input_ids, use_cache=False).logits
        return logits


@dataclass(frozen=True)
class _Kind:
    task: Task
    loader: str
    """Name of transformers' class."""
    wrapper: type[_Logits]
    endings: tuple[str, ...]
    """Of config.json's architectures."""


_KINDS = {
    kind.task.name: kind
    for kind in (
        _Kind(IMAGE_CLASSIFICATION, "AutoModelForImageClassification", _ImageClassifier, ("ForImageClassification",)),
        _Kind(
            TEXT_CLASSIFICATION, "AutoModelForSequenceClassification", _TextClassifier, ("ForSequenceClassification",)
        ),
        _Kind(CAUSAL_LANGUAGE_MODELING, "AutoModelForCausalLM", _LanguageModel, ("ForCausalLM", "LMHeadModel")),
    )
}


def factory(task: str) -> Callable[..., nn.Module]:
    """Return what builds a model of transformers for a task from `config`, the content of its config.json.

    Raises:
        InputRefusedError: If the task is unknown.
    """
    if task not in _KINDS:
        raise InputRefusedError(f"architecture transformers://{task}: unknown; there are {', '.join(_KINDS)}")
    return lambda *, config: _build(_KINDS[task], config)


def build_transformers(task: str, config: dict[str, Any]) -> nn.Module:
    """Return a model of transformers with random weights, its submodule `classifier` as transformers made it.

    Raises:
        InputRefusedError: If the task is unknown.
        ValueError: Or whatever else the config's class raises, if it refuses the config.
    """
    return factory(task)(config=config)


def loader_of(task: str) -> tuple[Any, type[nn.Module]]:
    """Return transformers' class with `from_pretrained` for a task, and what gives its models' logits alone."""
    import transformers

    return getattr(transformers, _KINDS[task].loader), _KINDS[task].wrapper


def _build(kind: _Kind, config: dict[str, Any]) -> nn.Module:
    try:
        import transformers
    except ImportError as error:
        raise InputRefusedError("a Hugging Face model needs the extra: pip install 'coppice[hf]'") from error
    settings = {key: value for key, value in config.items() if key != "model_type"}
    if any("auto_map" in key for key in settings):
        raise ValueError("config.json names code of its own (auto_map), which is never run")
    loaded = transformers.AutoConfig.for_model(str(config.get("model_type")), **settings)
    # config.json names the class; without it the task's default for that kind of model is taken.
    named = getattr(transformers, (config.get("architectures") or [""])[0], None)
    model: nn.Module = (
        named(loaded) if named is not None
        else getattr(transformers, kind.loader).from_config(loaded, trust_remote_code=False)
    )  # fmt: skip
    return kind.wrapper(model)


def _kind(directory: Path, config: dict[str, Any]) -> _Kind:
    name = str((config.get("architectures") or ["ForImageClassification"])[0])
    for kind in _KINDS.values():
        if name.endswith(kind.endings):
            return kind
    raise InputRefusedError(
        f"{directory / CONFIG_NAME}: architectures names {name}; this version prunes image and sequence classifiers "
        "and causal language models"
    )


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
        kind = _kind(directory, config)
        module = _build(kind, config)
        load_weights(module.get_submodule("classifier"), load_file(weights))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputRefusedError(f"{directory} is not an image classifier this version can load: {error}") from error
    labels = tuple(str(label) for label in config.get("id2label", {}).values())
    return LoadedModel(
        module.eval(),
        ArchitectureSource(source=f"transformers://{kind.task.name}", arguments={"config": config}),
        _inputs(directory, kind.task, config),
        () if kind.task.perplexity else labels,
        sha256=digest,
        task=kind.task.name,
    )


def _inputs(directory: Path, task: Task, config: dict[str, Any]) -> tuple[InputSpec, ...]:
    if task is not IMAGE_CLASSIFICATION:
        length = min(int(config.get("max_position_embeddings") or config.get("n_positions") or 128), 128)
        tokens = InputSpec(name="input_ids", shape=(length,), dtype="int64", high=int(config["vocab_size"]))
        mask = InputSpec(name="attention_mask", shape=(length,), dtype="int64")
        return (tokens,) if task is CAUSAL_LANGUAGE_MODELING else (tokens, mask)
    size = config.get("image_size")
    if size is None:
        raise InputRefusedError(
            f"{directory / CONFIG_NAME}: add image_size, the height (and width) of the images the model is served with"
        )
    height, width = size if isinstance(size, list) else (size, size)
    return (InputSpec(shape=(int(config.get("num_channels", 3)), int(height), int(width))),)
