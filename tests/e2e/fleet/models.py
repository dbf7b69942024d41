"""The models that a fleet is offered, all of them real: trained, pruned and exported here.

Each one's file says nothing of what the others know: how accurate a model is, and what it burns, shows only when it is
served.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_api.prunejob import FineTune
from coppice_pruner.bundle import export_bundle
from coppice_pruner.data import Splits, digits
from coppice_pruner.models import LoadedModel, build
from coppice_pruner.surgery import find_groups, prune, to_steps
from coppice_pruner.training import evaluate, fine_tune

DENSE_WIDTHS = [[64, 64], [128], [128]]
HUNGRY_WIDTHS = [[128, 128], [128, 128], [128]]
KEPT_SHARE = 1 / 3
EPOCHS = 5


@dataclass(frozen=True)
class Offer:
    """A bundle in the fleet's claim."""

    directory: str
    sha256: str
    accuracy_ratio: float
    """On the held-out digits, as the trainer measures it."""


def dense(claim: Path) -> tuple[LoadedModel, Offer]:
    """Train what the fleet serves at first."""
    data = digits()
    model = _trained(DENSE_WIDTHS, data)
    return model, _exported(model, data, claim, "digits/dense")


def good(dense_model: LoadedModel, claim: Path) -> Offer:
    """Prune to a third of the channels and fine-tune."""
    data = digits()
    model = _pruned(dense_model)
    fine_tune(model.module, data, _settings(EPOCHS), seed=0)
    return _exported(model, data, claim, "runs/good")


def inaccurate(dense_model: LoadedModel, claim: Path) -> Offer:
    """Prune to a third of the channels, and leave it at that."""
    return _exported(_pruned(dense_model), digits(), claim, "runs/inaccurate")


def hungry(claim: Path) -> Offer:
    """Train one that is as accurate as the others, with wider and more layers."""
    data = digits()
    return _exported(_trained(HUNGRY_WIDTHS, data), data, claim, "runs/hungry")


def _trained(widths: list[list[int]], data: Splits) -> LoadedModel:
    torch.manual_seed(0)
    source = ArchitectureSource(source="coppice://vgg", arguments={"widths": widths})
    module = build(source)
    fine_tune(module, data, _settings(EPOCHS), seed=0)
    return LoadedModel(module, source, (InputSpec(shape=(1, 8, 8)),), data.classes)


def _pruned(model: LoadedModel) -> LoadedModel:
    examples = model.example_inputs()
    groups = find_groups(model.module, examples)
    kept = {group.name: tuple(range(round(group.width * KEPT_SHARE))) for group in groups}
    pruned = prune(model.module, examples, kept)
    return LoadedModel(pruned, model.architecture, model.inputs, model.classes, to_steps(kept, groups))


def _settings(epochs: int) -> FineTune:
    return FineTune(epochs=epochs, learning_rate="0.003", batch_size=64)


def _exported(model: LoadedModel, data: Splits, claim: Path, directory: str) -> Offer:
    accuracy_ratio = evaluate(model.module, data.evaluation, data.task).accuracy_ratio
    return Offer(directory, export_bundle(model, claim / directory), accuracy_ratio)
