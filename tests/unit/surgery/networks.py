"""Small networks, one for each way in which channels can be tied together."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """A stem and a block whose output is added to the stem's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.first = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.second = nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        joined = torch.relu(stem + self.second(self.first(stem)))
        return self.head(joined.mean(dim=(2, 3)))


class Concatenated(nn.Module):
    """Two branches side by side, read as one."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, 6, 3, padding=1)
        self.right = nn.Conv2d(1, 4, 3, padding=1)
        self.join = nn.Conv2d(10, 5, 1)
        self.head = nn.Linear(5, 10)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], dim=1)
        return self.head(torch.relu(self.join(joined)).mean(dim=(2, 3)))


class Normalised(nn.Module):
    """Layer norm over a width that one would like to prune."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.first(x.flatten(1))))


class Dense(nn.Module):
    """A dense block: every layer reads all that came before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.first = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1))
        self.second = nn.Sequential(nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 4, 3, padding=1))
        self.norm = nn.BatchNorm2d(14)
        self.head = nn.Linear(14, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.first(x)], dim=1)
        x = torch.cat([x, self.second(x)], dim=1)
        return self.head(torch.relu(self.norm(x)).mean(dim=(2, 3)))


class SoftmaxOverChannels(nn.Module):
    """Channels are weighed against each other by a function, which no module shows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.softmax(self.first(x), dim=1)
        return self.head(torch.relu(self.second(x)).mean(dim=(2, 3)))


class Attention(nn.Module):
    """Self-attention whose head size is a constant, and an MLP that may be pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.mix = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x[:, 0])
        heads = [layer(x).unflatten(2, (4, 4)).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        mixed = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = self.norm(x + self.mix(mixed))
        x = x + self.down(torch.nn.functional.gelu(self.up(x)))
        return self.head(x.mean(dim=1))


class CalledTwice(nn.Module):
    """One convolution at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.shared(torch.relu(self.stem(x))))
        return self.head(torch.relu(self.shared(x)).mean(dim=(2, 3)))


class FeaturesToo(nn.Module):
    """Gives its features beside the classes, so their width is part of the output."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.relu(self.second(torch.relu(self.first(x)))).mean(dim=(2, 3))
        return self.head(features), features


def plain() -> nn.Module:
    """Convolutions, then a flatten that turns a channel into 16 features."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 16, 10),
    )  # fmt: skip


def depthwise() -> nn.Module:
    """A depthwise convolution between two pointwise ones."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
        nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10),
    )  # fmt: skip


def perceptron() -> nn.Module:
    """Linear layers only."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))


def grouped() -> nn.Module:
    """A convolution in two groups between pointwise ones, as in ResNeXt."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 1), nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1, groups=2), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10),
    )  # fmt: skip


def multiplier() -> nn.Module:
    """A convolution that folds pairs of channels into one."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 1), nn.ReLU(),
        nn.Conv2d(8, 4, 3, padding=1, groups=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10),
    )  # fmt: skip


def one_dimensional() -> nn.Module:
    """Convolutions over a sequence."""
    return nn.Sequential(
        nn.Flatten(2), nn.Conv1d(1, 8, 3, padding=1), nn.BatchNorm1d(8), nn.PReLU(8),
        nn.Conv1d(8, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 10),
    )  # fmt: skip


def seeded(make: type[nn.Module] | object) -> nn.Module:
    """Build a network with random weights and batch statistics that are not the identity."""
    torch.manual_seed(0)
    model: nn.Module = make()  # type: ignore[operator]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()
