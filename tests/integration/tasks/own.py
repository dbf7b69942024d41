"""What a user writes to prune a model of their own: three factories in a package of the run image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from coppice_api.prunejob import FineTune
from coppice_pruner.data import Samples, Splits
from coppice_pruner.tasks import Task
from coppice_pruner.training import fine_tune

WITHIN_TASK = Task(
    "regression within a tenth",
    loss=lambda outputs, targets: functional.mse_loss(outputs.squeeze(1), targets),
    correct=lambda outputs, targets: ((outputs.squeeze(1) - targets).abs() < 0.1).float(),
    logits=False,
)


def data() -> Splits:
    """Sums of products of eight numbers, with a metric of its own: the share of answers within a tenth."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand((1200, 8), generator=generator)
    targets = (inputs[:, :4] * inputs[:, 4:]).sum(dim=1) / 2
    return Splits(Samples((inputs[:900],), targets[:900]), Samples((inputs[900:],), targets[900:]), (), WITHIN_TASK)


class Network(nn.Module):
    """A perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


def model() -> nn.Module:
    """The perceptron, trained."""
    torch.manual_seed(0)
    module = Network()
    fine_tune(module, data(), FineTune(epochs=30, learning_rate="0.01", batch_size=64), seed=0)
    return module
