"""Small architectures that come with Coppice, for the demo, the tests and the benchmarks.

Every argument is a JSON value, so that a bundle's manifest can name one completely.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coppice_pruner.models.attention import SelfAttention


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
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.shortcut(x)
        x = self.relu(self.bn1(self.conv1(x)))
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


class _TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))[0]
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class _VisionTransformer(nn.Module):
    def __init__(
        self, image_size: int, patch: int, width: int, depth: int, heads: int, mlp_width: int, in_channels: int,
        classes: int, stem: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = _stem(in_channels, width, patch) if stem else nn.Conv2d(in_channels, width, patch, stride=patch)
        self.position = nn.Parameter(torch.zeros(1, (image_size // patch) ** 2, width))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.blocks = nn.Sequential(*(_TransformerBlock(width, heads, mlp_width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        result: Tensor = self.head(self.norm(self.blocks(x)).mean(dim=1))
        return result


def _stem(in_channels: int, width: int, patch: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels, halvings = in_channels, patch.bit_length() - 1
    for position in range(halvings):
        wider = width >> (halvings - 1 - position)
        layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
        channels = wider
    return nn.Sequential(*layers, nn.Conv2d(channels, width, 1))


def vit(
    *, image_size: int = 32, patch: int = 4, width: int = 128, depth: int = 6, heads: int = 8, mlp_width: int = 512,
    in_channels: int = 1, classes: int = 10, stem: bool = False,
) -> nn.Module:  # fmt: skip
    """Return a vision transformer for small images: pre-norm blocks, mean over patches instead of a class token.

    Args:
        image_size: Height and width of the images.
        patch: Height and width of a patch.
        width: Hidden size.
        depth: Blocks.
        heads: Attention heads; divides the width.
        mlp_width: Of the two-layer perceptron in each block.
        in_channels: Channels of the image.
        classes: Outputs.
        stem: Patches come from convolutions that halve the image, with which a few thousand images suffice to learn
            from; `patch` is then a power of two.

    Source: Dosovitskiy et al. 2021, arXiv:2010.11929; mean pooling as in Beyer et al. 2022, arXiv:2205.01580; stem of
    Xiao et al. 2021, arXiv:2106.14881.

    Raises:
        ValueError: If there is a stem and the patch is no power of two.
    """
    if stem and (patch < 2 or patch & (patch - 1)):
        raise ValueError(f"patch is {patch}; with a stem it must be a power of two")
    return _VisionTransformer(image_size, patch, width, depth, heads, mlp_width, in_channels, classes, stem)
