"""Whether a model and a data set belong together, found before anything is measured."""

from __future__ import annotations

import dataclasses
import hashlib
import logging

import torch
from torch import Tensor

from coppice_api.bundle import InputSpec
from coppice_pruner.data import Samples, Splits
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models import LoadedModel
from coppice_pruner.storage.weights import weights_digest
from coppice_pruner.tasks import TASKS

_FEW = 4
_LEAST_SAMPLES = 2
_UNBALANCED = 0.9
_log = logging.getLogger(__name__)


def fitted(model: LoadedModel, data: Splits) -> LoadedModel:
    """Return the model with the inputs that the data gives it: the length of sequences comes from the data.

    Raises:
        InputRefusedError: Naming both shapes, both numbers of classes, or what is wrong with the data.
    """
    for name, samples in (("training", data.train), ("evaluation", data.evaluation)):
        _refuse_samples(name, samples, len(data.classes))
    given = data.train.inputs
    specs = tuple(_spec(spec, tensor) for spec, tensor in zip(model.inputs, given, strict=False)) or tuple(
        InputSpec(name=f"input{index}", shape=tuple(item.shape[1:]), dtype=str(item.dtype).removeprefix("torch."))
        for index, item in enumerate(given)
    )
    want = tuple(tuple(item.shape) for item in specs)
    got = tuple(tuple(item.shape[1:]) for item in given)
    held_out = tuple(tuple(item.shape[1:]) for item in data.evaluation.inputs)
    if held_out != got:
        raise InputRefusedError(
            f"spec.dataset.uri: samples of the training split have shape {_shapes(got)}, those of the evaluation "
            f"split {_shapes(held_out)}; both need one shape"
        )
    if want != got:
        raise InputRefusedError(
            f"spec.dataset.uri: its samples have shape {_shapes(got)}, but the model of spec.model.uri takes "
            f"{_shapes(want)}"
        )
    _refuse_tokens(specs, data)
    if model.task in TASKS and data.task.name in TASKS and model.task != data.task.name:
        raise InputRefusedError(
            f"spec.dataset.uri: its task is {data.task.name}, the model of spec.model.uri was made for {model.task}"
        )
    result = dataclasses.replace(model, inputs=specs, task=data.task.name, classes=model.classes or data.classes)
    _refuse_outputs(result, data)
    return result


def inputs_digest(model: LoadedModel, data: Splits) -> str:
    """Return a SHA-256 of a dense model's weights and of the data: what decisions depend on besides the spec."""
    return hashlib.sha256(f"{weights_digest(model.module)} {data.sha256()}".encode()).hexdigest()


def _refuse_samples(name: str, samples: Samples, classes: int) -> None:
    if len(samples) < _LEAST_SAMPLES:
        raise InputRefusedError(
            f"spec.dataset.uri: the {name} split has {len(samples)} samples; it needs {_LEAST_SAMPLES} at least"
        )
    if not samples.inputs or any(len(item) != len(samples) for item in samples.inputs):
        raise InputRefusedError(f"spec.dataset.uri: the {name} split has more samples than targets, or fewer")
    for item in samples.inputs:
        if item.is_floating_point() and not bool(item.isfinite().all()):
            raise InputRefusedError(f"spec.dataset.uri: the {name} split holds values that are NaN or infinite")
    if not classes:
        return
    if samples.targets.is_floating_point():
        raise InputRefusedError(
            f"spec.dataset.uri: the {name} split has targets of type {samples.targets.dtype}; labels are integers"
        )
    if samples.targets.dim() != 1:
        raise InputRefusedError(
            f"spec.dataset.uri: the {name} split has targets of shape {tuple(samples.targets.shape)}; labels have "
            f"({len(samples)},), a number for each sample"
        )
    low, high = int(samples.targets.min()), int(samples.targets.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise InputRefusedError(
            f"spec.dataset.uri: the {name} split has label {wrong}; with {classes} classes labels are 0 to "
            f"{classes - 1}"
        )
    if low == high:
        raise InputRefusedError(
            f"spec.dataset.uri: every sample of the {name} split has label {low}; accuracy would say nothing"
        )
    counts = torch.bincount(samples.targets, minlength=classes)
    share = float(counts.max()) / len(samples)
    if share >= _UNBALANCED:
        _log.warning(
            "spec.dataset.uri: %.0f %% of the %s split have label %d, so accuracy says little: a model that always "
            "gives that answer scores as much. Set a smaller objective.maxAccuracyDropPoints", 100 * share, name,
            int(counts.argmax()),
        )  # fmt: skip


def _refuse_tokens(specs: tuple[InputSpec, ...], data: Splits) -> None:
    for spec, *tensors in zip(specs, data.train.inputs, data.evaluation.inputs, strict=True):
        for tensor in tensors:
            if spec.high is not None and (int(tensor.min()) < 0 or int(tensor.max()) >= spec.high):
                raise InputRefusedError(
                    f"spec.dataset.uri: token {int(tensor.max())} is outside the model's vocabulary of {spec.high}; "
                    "use the tokenizer the model was trained with"
                )


def _refuse_outputs(model: LoadedModel, data: Splits) -> None:
    samples = data.train.take(slice(_FEW))
    try:
        with torch.inference_mode():
            outputs = model.module(*samples.inputs)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise InputRefusedError(
            f"spec.dataset.uri: the model of spec.model.uri cannot take its samples: {str(error).splitlines()[0]}"
        ) from error
    if isinstance(outputs, Tensor) and outputs.is_floating_point() and not bool(outputs.isfinite().all()):
        raise InputRefusedError(
            "spec.model.uri: the model gives NaN or infinite outputs for real samples: its weights are damaged, or it "
            "was trained on inputs of another scale"
        )
    if data.classes and (
        not isinstance(outputs, Tensor) or outputs.dim() != 2 or outputs.shape[1] != len(data.classes)
    ):
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputRefusedError(
            f"spec.model.uri: the model gives outputs of shape {shape} for {len(samples)} samples; the data set has "
            f"{len(data.classes)} classes, so ({len(samples)}, {len(data.classes)}) is needed"
        )


def _spec(spec: InputSpec, tensor: Tensor) -> InputSpec:
    # Sequences may be shorter than what the model could take.
    return spec.model_copy(update={"shape": tuple(tensor.shape[1:])}) if spec.dtype == "int64" else spec


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return " and ".join(map(str, shapes))
