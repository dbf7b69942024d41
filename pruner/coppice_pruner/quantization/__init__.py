"""8-bit integers in place of floating point: the last stage of the loop, kept only where the meter says it pays.

Belongs here: which layers compute with integers, and the trial that decides. Does not belong here: how energy is
compared (measurement) or what runs the model (deployment). Everything that knows torchao is in `int8`; a conversion
to plain tensors for export is in `deployment.program`, and weights on disk are in `storage.weights`.
"""

from coppice_pruner.quantization.int8 import (
    QuantizationUnavailableError,
    linear_layers,
    quantized,
    reduced_range,
    require_torchao,
)
from coppice_pruner.quantization.stage import Instruments, Quantization, Trial, Way, try_int8

__all__ = [
    "Instruments",
    "Quantization",
    "QuantizationUnavailableError",
    "Trial",
    "Way",
    "linear_layers",
    "quantized",
    "reduced_range",
    "require_torchao",
    "try_int8",
]
