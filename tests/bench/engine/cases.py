"""The models of the benchmark, trained once for each seed and kept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_api.prunejob import FineTune, Optimizer, Schedule
from coppice_pruner.data import Splits, load
from coppice_pruner.models import LoadedModel, build
from coppice_pruner.storage.weights import load_weights, own_weights
from coppice_pruner.training import fine_tune

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A model, its data and how the dense one is trained."""

    name: str
    architecture: ArchitectureSource
    dataset: str
    epochs: int
    learning_rate: str
    """Of the dense model's training and, the same for all methods, of the fine-tuning after every pruning step."""
    batch_size: int = 64
    weight_decay: str = "0.05"

    def settings(self, epochs: int) -> FineTune:
        """Return how the dense model is trained."""
        return FineTune(
            optimizer=Optimizer.ADAMW, learning_rate=self.learning_rate, weight_decay=self.weight_decay,
            schedule=Schedule.COSINE, epochs=epochs, batch_size=self.batch_size, gradient_clip_norm="1",
        )  # fmt: skip


def case(
    name: str, source: str, arguments: dict[str, Any], dataset: str, epochs: int, rate: str, batch_size: int = 64
) -> Case:
    """Return a case of one of our own architectures and a builtin data set."""
    return Case(
        name, ArchitectureSource(source=f"coppice://{source}", arguments=arguments), f"builtin://{dataset}", epochs,
        rate, batch_size,
    )  # fmt: skip


CASES = {
    item.name: item
    for item in (
        case("cnn-digits", "vgg", {"widths": [[32, 32], [64, 64], [128, 128]]}, "digits", 30, "0.001"),
        case("vgg-shapes100", "vgg", {"widths": [[32, 32], [64, 64], [128, 128]], "classes": 100}, "shapes100", 12,
              "0.004"),
        case("resnet-shapes100", "resnet", {"widths": [24, 48, 96], "blocks": 2, "classes": 100}, "shapes100", 10,
              "0.004"),
        case("vit-shapes100", "vit", {"image_size": 24, "patch": 4, "width": 64, "depth": 4, "heads": 4,
              "mlp_width": 256, "classes": 100, "stem": True}, "shapes100", 24, "0.002"),
    )
}  # fmt: skip


BRIEF = "cnn-digits"
"""The case with fine-tunings so short that the loop's rules for them apply."""


def shortened(case: Case, share: float) -> Case:
    """Return a case whose dense model is trained for a share of its epochs, one at least."""
    return dataclasses.replace(case, epochs=max(1, round(share * case.epochs)))


def dense(
    case: Case, seed: int, kept: Path, *, train_share: float = 1.0, device: torch.device = _CPU
) -> tuple[LoadedModel, Splits]:
    """Return the trained dense model of a case and its data.

    Args:
        case: Which.
        seed: Of weights and order.
        kept: Directory in which trained weights are looked for and left.
        train_share: Share of the training split that is used, for this and for everything after.
        device: Where both are, and where it is trained.
    """
    data = load(case.dataset)
    if train_share < 1.0:
        # Drawn, since the samples of a class may lie together.
        chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
        data = dataclasses.replace(data, train=data.train.take(chosen[: round(train_share * len(chosen))]))
    torch.manual_seed(seed)
    module, data = build(case.architecture).to(device), data.to(device)
    path = kept / f"{case.name}-{seed}.safetensors"
    if path.is_file():
        load_weights(module, load_file(path))
    else:
        fine_tune(module, data, case.settings(case.epochs), seed=seed)
        kept.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp")
        save_file(own_weights(module), aside)
        aside.rename(path)
    shape = tuple(data.train.inputs[0].shape[1:])
    return LoadedModel(module.eval(), case.architecture, (InputSpec(shape=shape),), data.classes), data
