"""The program that a bundle ships: exported once, for a batch of any size, and what the runtimes start from."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

MAX_BATCH = 65536


def program_of(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """Return a module as a program of PyTorch's own operators that takes a batch of any size.

    Args:
        module: As deployed: folded, quantized or not. Not changed.
        example_inputs: A batch of two at least, shapes (N, ...); one would be taken for a constant.

    Raises:
        Exception: Whatever torch.export stumbles over.
    """
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    quantized = any(is_traceable_wrapper_subclass(item) for item in module.parameters())
    with warnings.catch_warnings():
        # The exporters warn of their own dependencies' deprecations, which nobody here can act on.
        warnings.simplefilter("ignore")
        program = torch.export.export(
            _plain(module) if quantized else module, example_inputs,
            dynamic_shapes=tuple({0: batch} for _ in example_inputs),
        )  # fmt: skip
        return _without_torchao(program) if quantized else program


def onnx_of(program: torch.export.ExportedProgram) -> ONNXProgram:
    """Return a program in ONNX.

    Raises:
        Exception: Whatever one of the exporter's many passes stumbles over.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        result = torch.onnx.export(
            program, dynamo=True, verbose=False, custom_translation_table={torch.ops.aten._int_mm.default: _int_mm}
        )
    assert result is not None
    return result


def _int_mm(left: Any, right: Any) -> Any:
    """Return the product of two matrices of 8-bit integers, for which torch's own exporter has no operator."""
    from onnxscript import opset18

    return opset18.MatMulInteger(left, right)


def _without_torchao(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a program with torchao's operators, known only where torchao is, as what they are made of.

    Nothing else is taken apart: another order of the same sums rounds some inputs to another integer.
    """
    table = torch.export.default_decompositions()
    own = {item: made_of for item, made_of in table.items() if getattr(item, "namespace", "") == "torchao"}
    result: torch.export.ExportedProgram = program.run_decompositions(own)
    return result


def _plain(module: nn.Module) -> nn.Module:
    """Return a copy whose integers and scales are parameters of their own: a tensor of torchao's would be pickled."""
    from torchao.utils import unwrap_tensor_subclass

    result: nn.Module = unwrap_tensor_subclass(copy.deepcopy(module))
    return result
