"""The one adapter around torchao: linear layers whose weights are 8-bit integers with a scale for each output.

torchao's tensors for integers compute linear layers and nothing else; convolutions stay in floating point.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import nn

from coppice_api.bundle import Quantized
from coppice_api.prunejob import QuantizationScheme
from coppice_pruner.errors import InputRefusedError


class QuantizationUnavailableError(InputRefusedError):
    """torchao is not installed here."""


def require_torchao() -> None:
    """Refuse a run that will want torchao, before it has cost anything.

    Raises:
        QuantizationUnavailableError: If torchao is missing.
    """
    _torchao()


def quantized(module: nn.Module, how: Quantized) -> nn.Module:
    """Return a copy whose linear layers are quantized; their integers follow from the module's weights alone.

    Args:
        module: Folded. Not changed.
        how: Scheme and range.

    Raises:
        QuantizationUnavailableError: If torchao is missing.
    """
    torchao = _torchao()
    result = copy.deepcopy(module).eval()
    # No settings for torchao's liking: they are the compiler's for the whole process, so the dense model would be
    # compiled with others than the quantized one.
    match how.scheme:
        case QuantizationScheme.INT8_WEIGHT_ONLY:
            settings = torchao.Int8WeightOnlyConfig(granularity=torchao.PerRow(), set_inductor_config=False)
        case QuantizationScheme.INT8_DYNAMIC:
            settings = torchao.Int8DynamicActivationInt8WeightConfig(
                granularity=torchao.PerRow(), set_inductor_config=False, reduce_range=how.reduced_range
            )
    names = set(linear_layers(result))
    torchao.quantize_(result, settings, filter_fn=lambda _module, name: name in names)
    return result


def linear_layers(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the layers that `quantized` changes."""
    return tuple(
        name
        for name, item in module.named_modules()
        if isinstance(item, nn.Linear)
        # PyTorch's own attention reads this layer's weight past its forward.
        and not isinstance(item, nn.modules.linear.NonDynamicallyQuantizableLinear)
    )


def reduced_range(device: torch.device) -> bool:
    """Return whether products of 8-bit integers may overflow on a device: on a CPU without VNNI, 7 bits do not.

    Raises:
        QuantizationUnavailableError: If torchao is missing.
    """
    _torchao()
    from torchao.utils import should_reduce_range

    return bool(should_reduce_range(device))


def _torchao() -> Any:
    # On import torch logs what torchao registers in an old way, which nobody here can act on.
    noisy = logging.getLogger("torch.utils._pytree")
    before = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        import torchao.quantization
    except ImportError as error:
        raise QuantizationUnavailableError(
            "8-bit linear layers need the package torchao: install coppice[int8], or use spec.algorithm.quantization "
            "None"
        ) from error
    finally:
        noisy.setLevel(before)
    return torchao.quantization
