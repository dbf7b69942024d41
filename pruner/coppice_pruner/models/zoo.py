"""Small architectures that come with Coppice, for the demo, the tests and the benchmarks.

Every argument is a JSON value, so that a bundle's manifest can name one completely.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def vgg(
    *,
    widths: Sequence[Sequence[int]] = ((32, 32), (64, 64), (128, 128)),
    in_channels: int = 1,
    classes: int = 10,
) -> nn.Module:
    """Return a VGG-like network: blocks of 3x3 convolutions with batch norm, halved in size between blocks.

    Args:
        widths: Output channels of each convolution, a list for each block.
        in_channels: Channels of the image.
        classes: Outputs.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for position, block in enumerate(widths):
        if position:
            layers.append(nn.MaxPool2d(2))
        for width in block:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class _BasicBlock(nn.Module):
    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.shortcut(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + residual)


def resnet(
    *, widths: Sequence[int] = (16, 32, 64), blocks: int = 2, in_channels: int = 1, classes: int = 10
) -> nn.Module:
    """Return a residual network of basic blocks for small images.

    Args:
        widths: Channels of each stage; every stage but the first halves the image.
        blocks: Blocks in a stage.
        in_channels: Channels of the image.
        classes: Outputs.

    Source: He et al. 2016, the CIFAR form, arXiv:1512.03385.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
    ]  # fmt: skip
    channels = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(_BasicBlock(channels, width, stride=2 if stage and not block else 1))
            channels = width
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
