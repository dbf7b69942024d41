"""Small instances of the architectures that people use, built by the packages that publish them, random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_pruner.models import LoadedModel, build

CLASSES = 10
VOCABULARY = 100
LENGTH = 12


@dataclass(frozen=True)
class Instance:
    """One architecture."""

    name: str
    origin: str
    arguments: dict[str, Any]
    inputs: tuple[InputSpec, ...]
    source: str

    def load(self) -> LoadedModel:
        """Return the model, its batch norms having seen data."""
        torch.manual_seed(0)
        source = ArchitectureSource(source=self.source, arguments=self.arguments)
        module = build(source)
        # Untrained statistics let signals die out in deep networks; every branch would look dead.
        norms = [item for item in module.modules() if isinstance(item, torch.nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = None
            norm.train()
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.dim() > 1 and not bool(parameter.any()):
                    # Some heads start at zero, so that outputs would not depend on the inputs.
                    torch.nn.init.normal_(parameter, std=0.1)
            module(*self.samples(32, seed=1))
        return LoadedModel(module.eval(), source, self.inputs, tuple(map(str, range(CLASSES))))

    def samples(self, count: int, *, seed: int) -> tuple[Tensor, ...]:
        """Return random inputs."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(_sample(spec, count, generator) for spec in self.inputs)


def _sample(spec: InputSpec, count: int, generator: torch.Generator) -> Tensor:
    if spec.dtype == "float32":
        return torch.randn((count, *spec.shape), generator=generator)
    if spec.high is None:
        return torch.ones((count, *spec.shape), dtype=torch.int64)
    return torch.randint(0, spec.high, (count, *spec.shape), generator=generator)


def _image(size: int, channels: int = 3) -> tuple[InputSpec, ...]:
    return (InputSpec(shape=(channels, size, size)),)


_TOKENS = InputSpec(name="input_ids", shape=(LENGTH,), dtype="int64", high=VOCABULARY)
_MASK = InputSpec(name="attention_mask", shape=(LENGTH,), dtype="int64")
_BLOCKS = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 48}


def _coppice(name: str, label: str, size: int = 16, **arguments: Any) -> Instance:
    return Instance(label, "coppice", {"in_channels": 3, **arguments}, _image(size), f"coppice://{name}")


def _torchvision(name: str, label: str) -> Instance:
    arguments = {"name": name, "num_classes": CLASSES, "image_size": 32}
    return Instance(label, f"torchvision {name}", arguments, _image(32), "torchvision://")


def _image_classifier(label: str, architecture: str, model_type: str, size: int, **config: Any) -> Instance:
    settings = {"model_type": model_type, "architectures": [architecture], "num_labels": CLASSES, **config}
    return Instance(
        label, f"transformers {architecture}", {"config": settings}, _image(size), "transformers://image-classification"
    )


def _text(label: str, architecture: str, model_type: str, **config: Any) -> Instance:
    settings = {"model_type": model_type, "architectures": [architecture], "vocab_size": VOCABULARY, **config}
    language_model = architecture.endswith(("LMHeadModel", "ForCausalLM"))
    if not language_model:
        settings["num_labels"] = CLASSES
    task = "causal-language-modeling" if language_model else "text-classification"
    return Instance(
        label, f"transformers {architecture}", {"config": settings},
        (_TOKENS,) if language_model else (_TOKENS, _MASK), f"transformers://{task}",
    )  # fmt: skip


INSTANCES: tuple[Instance, ...] = (
    _coppice("vgg", "Plain CNN (VGG-like)"),
    _coppice("resnet", "Residual CNN"),
    _coppice("vit", "Vision transformer", 32, width=32, depth=2, heads=4, mlp_width=64),
    _torchvision("resnet18", "ResNet, basic blocks"),
    _torchvision("resnet50", "ResNet, bottlenecks"),
    _torchvision("mobilenet_v2", "MobileNetV2"),
    _torchvision("mobilenet_v3_small", "MobileNetV3"),
    _torchvision("densenet121", "DenseNet"),
    _torchvision("convnext_tiny", "ConvNeXt"),
    _torchvision("vit_b_16", "ViT"),
    _torchvision("swin_t", "Swin"),
    _image_classifier(
        "ResNet", "ResNetForImageClassification", "resnet", 32,
        embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic",
    ),
    _image_classifier(
        "ConvNeXt", "ConvNextForImageClassification", "convnext", 32,
        hidden_sizes=[16, 32], depths=[1, 1], num_stages=2, image_size=32,
    ),
    _image_classifier("ViT", "ViTForImageClassification", "vit", 16, image_size=16, patch_size=4, **_BLOCKS),
    _image_classifier("DeiT", "DeiTForImageClassification", "deit", 16, image_size=16, patch_size=4, **_BLOCKS),
    _image_classifier(
        "Swin", "SwinForImageClassification", "swin", 32,
        image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4,
    ),
    _text("BERT", "BertForSequenceClassification", "bert", **_BLOCKS),
    _text(
        "DistilBERT", "DistilBertForSequenceClassification", "distilbert", dim=32, n_heads=4, n_layers=2, hidden_dim=48
    ),
    _text(
        "GPT-2", "GPT2LMHeadModel", "gpt2", n_embd=32, n_head=4, n_layer=2, bos_token_id=None, eos_token_id=None
    ),
    _text("Llama, grouped queries", "LlamaForCausalLM", "llama", num_key_value_heads=2, **_BLOCKS),
)  # fmt: skip

Loader = Callable[[], LoadedModel]
