"""Models run by ONNX Runtime: the bundle's model.onnx, inputs and outputs bound where they are."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor, nn

from coppice_api.prunejob import RuntimeKind
from coppice_pruner.deployment.program import onnx_of, program_of
from coppice_pruner.deployment.runtime import Answer
from coppice_pruner.errors import InputRefusedError

_FIELD = "spec.measurement.runtime OnnxRuntime"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_NUMPY = {torch.float32: np.float32, torch.float16: np.float16, torch.int64: np.int64}
_log = logging.getLogger(__name__)


class OnnxRuntime:
    """ONNX Runtime with one thread on a CPU, or on a GPU where its build for GPUs is installed.

    Args:
        device: Where models run.

    Raises:
        InputRefusedError: If it is not installed, or was built without this kind of device.
    """

    kind = RuntimeKind.ONNX_RUNTIME
    steers = True

    def __init__(self, device: torch.device) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise InputRefusedError(
                f"{_FIELD} needs the package onnxruntime: install coppice[onnx-runtime] in the run image, or use Eager"
            ) from error
        self._ort, self._device = onnxruntime, device
        self._provider = _PROVIDERS.get(device.type, device.type)
        if self._provider not in onnxruntime.get_available_providers():
            raise InputRefusedError(
                f"{_FIELD}: the onnxruntime installed has no {self._provider}, which a model on {device.type} needs: "
                "install onnxruntime-gpu in its place, or use Eager or Compiled"
            )

    def prepare(self, module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Answer:
        """Return a session of the module.

        Raises:
            InputRefusedError: If the model cannot be written in ONNX.
        """
        try:
            model = onnx_of(program_of(module, example_inputs)).model_proto.SerializeToString()
            session = self._ort.InferenceSession(model, self._options(), providers=[self._provider])
        except Exception as error:  # whatever one of the exporter's many passes stumbles over
            _log.debug("what the exporter or the session said", exc_info=error)
            raise InputRefusedError(
                f"{_FIELD}: torch {torch.__version__} cannot express this model in ONNX: use Eager or Compiled"
            ) from error
        names = [item.name for item in session.get_inputs()]
        output = session.get_outputs()[0].name

        def answer(*inputs: Tensor) -> Tensor:
            binding = session.io_binding()
            for name, tensor in zip(names, inputs, strict=True):
                self._bind(binding, name, tensor.contiguous())
            binding.bind_output(output, self._device.type, self._device.index or 0)
            session.run_with_iobinding(binding)
            return torch.utils.dlpack.from_dlpack(binding.get_outputs()[0]._ortvalue)

        return answer

    def _options(self) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # It says on stderr what a log of ours cannot place; what stops a model is raised.
        options.log_severity_level = 3
        return options

    def _bind(self, binding: Any, name: str, tensor: Tensor) -> None:
        binding.bind_input(
            name, tensor.device.type, tensor.device.index or 0, _NUMPY[tensor.dtype], tuple(tensor.shape),
            tensor.data_ptr(),
        )  # fmt: skip
