"""Models compiled ahead of time by AOTInductor: the program that the bundle ships, without Python in between.

torch.compile was the other choice. It compiles while it is measured, keeps a limit of compiled forms for each piece of
code and falls back to eager without a word beyond it: a loop that tries a dozen widths of one architecture would have
compared a compiled dense model with an eager pruned one.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from coppice_api.prunejob import RuntimeKind
from coppice_pruner.deployment.program import program_of
from coppice_pruner.deployment.runtime import Answer
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.measurement import one_thread

_FIELD = "spec.measurement.runtime Compiled"
_log = logging.getLogger(__name__)


class Compiled:
    """AOTInductor, on a CPU or a GPU.

    Raises:
        InputRefusedError: If there is no C++ compiler, which both need.
    """

    kind = RuntimeKind.COMPILED
    steers = False

    def __init__(self) -> None:
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise InputRefusedError(
                f"{_FIELD} needs a C++ compiler, and there is none here: install g++ in the run image or name another "
                "in CXX, or use Eager"
            ) from error

    def prepare(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Answer:
        """Return the compiled form of a module.

        It is compiled for one thread, as it is measured: the number of threads is part of the code on a CPU.

        Raises:
            InputRefusedError: If the model cannot be exported or compiled.
        """
        try:
            with one_thread(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as aside:
                # The compiler warns of its own dependencies' deprecations, which nobody here can act on.
                warnings.simplefilter("ignore")
                package = torch._inductor.aoti_compile_and_package(
                    program_of(module, example_inputs), package_path=str(Path(aside) / "model.pt2")
                )
                # Loading unpacks the package elsewhere.
                compiled = torch._inductor.aoti_load_package(package)
        except Exception as error:  # whatever one of the many passes stumbles over
            _log.debug("what the compiler said", exc_info=error)
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputRefusedError(f"{_FIELD} cannot compile this model ({first[:300]}): use Eager") from error

        def answer(*inputs: Tensor) -> Tensor:
            result: Tensor = compiled(*inputs)
            return result

        return answer
