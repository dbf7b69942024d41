"""Data sets in files: arrays (npz, safetensors) and folders of images."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from coppice_pruner.data.splits import Samples, Splits
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.tasks import CAUSAL_LANGUAGE_MODELING, IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, Task

ARRAYS = ("data.safetensors", "data.npz")
_NAMES = ("train_inputs", "train_targets", "evaluation_inputs", "evaluation_targets")
_SPLITS = {"train": ("train",), "evaluation": ("evaluation", "val", "validation", "test")}


def load_directory(directory: Path, *, field: str = "spec.dataset.uri", size: int | None = None) -> Splits:
    """Return the data set of a directory.

    Args:
        directory: Holds data.safetensors or data.npz with the arrays train_inputs, train_targets, evaluation_inputs and
            evaluation_targets; or folders train/ and val/ with a folder of images for each class.
        field: For messages.
        size: Images are scaled and cropped to this height and width.

    Raises:
        InputRefusedError: If it is none of these, or damaged.
    """
    for name in ARRAYS:
        if (directory / name).is_file():
            return _of_arrays(_read_arrays(directory / name, field), directory / name, field)
    folders = {
        split: next((directory / name for name in names if (directory / name).is_dir()), None)
        for split, names in _SPLITS.items()
    }
    train, evaluation = folders["train"], folders["evaluation"]
    if train is None or evaluation is None:
        raise InputRefusedError(
            f"{field}: {directory} is no data set; it needs {' or '.join(ARRAYS)} with {', '.join(_NAMES)}, or the "
            "folders train/ and val/ with a folder of images for each class"
        )
    return _of_images(train, evaluation, field, size)


def _read_arrays(path: Path, field: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".npz":
            import numpy as np

            # Opened here, since numpy leaves a damaged archive open.
            _refuse_bombs(path, field)
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        from safetensors.torch import load_file

        return load_file(path)
    except InputRefusedError:
        raise
    except Exception as error:  # numpy raises whatever a damaged archive makes it stumble over
        raise InputRefusedError(f"{field}: {path} cannot be read: {error}; write the file again") from error


def _refuse_bombs(path: Path, field: str) -> None:
    """Refuse an archive that would fill the memory, before anything of it is unpacked."""
    with zipfile.ZipFile(path) as archive:
        unpacked_bytes = sum(item.file_size for item in archive.infolist())
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if unpacked_bytes > memory_bytes:
        raise InputRefusedError(
            f"{field}: {path} would take {unpacked_bytes / (1 << 30):.1f} GiB unpacked and this machine has "
            f"{memory_bytes / (1 << 30):.1f} GiB of memory; write the arrays as data.safetensors, or less of them"
        )


def _of_arrays(arrays: dict[str, Tensor], path: Path, field: str) -> Splits:
    missing = [name for name in _NAMES if name not in arrays]
    if missing:
        raise InputRefusedError(f"{field}: {path} lacks the arrays {', '.join(missing)}; it has {', '.join(arrays)}")
    for name in _NAMES:
        if not arrays[name].numel():
            raise InputRefusedError(f"{field}: {path}: the array {name} of shape {tuple(arrays[name].shape)} is empty")
    for name in ("train_inputs", "evaluation_inputs"):
        inputs = arrays[name]
        if not inputs.is_floating_point() and inputs.dim() != 2:
            raise InputRefusedError(
                f"{field}: {path}: the array {name} of shape {tuple(inputs.shape)} holds {inputs.dtype}; images are "
                "float32 of shape (N, channels, height, width), normalised as in training, tokens int64 of (N, length)"
            )
    task = _task(arrays["train_inputs"], arrays["train_targets"])

    def samples(split: str) -> Samples:
        inputs, targets = arrays[f"{split}_inputs"], arrays[f"{split}_targets"].long()
        if inputs.is_floating_point():
            return Samples((inputs.float(),), targets)
        mask = arrays.get(f"{split}_mask")
        tokens = inputs.long()
        if task is CAUSAL_LANGUAGE_MODELING:
            return Samples((tokens,), targets)
        return Samples((tokens, torch.ones_like(tokens) if mask is None else mask.long()), targets)

    train, evaluation = samples("train"), samples("evaluation")
    count = 0 if task is CAUSAL_LANGUAGE_MODELING else int(max(train.targets.max(), evaluation.targets.max())) + 1
    return Splits(train, evaluation, tuple(str(index) for index in range(count)), task)


def _task(inputs: Tensor, targets: Tensor) -> Task:
    if inputs.is_floating_point():
        return IMAGE_CLASSIFICATION
    return CAUSAL_LANGUAGE_MODELING if targets.dim() > 1 else TEXT_CLASSIFICATION


def _of_images(train: Path, evaluation: Path, field: str, size: int | None) -> Splits:
    try:
        from torchvision import datasets, transforms
    except ImportError as error:
        raise InputRefusedError(f"{field}: folders of images need the extra: pip install 'coppice[vision]'") from error
    steps = [transforms.ToTensor()]
    if size is not None:
        steps = [transforms.Resize(size), transforms.CenterCrop(size), *steps]
    classes = None
    parts = []
    for folder in (train, evaluation):
        try:
            found = datasets.ImageFolder(str(folder), transforms.Compose(steps))
            images = torch.stack([image for image, _ in found])
        except OSError as error:
            raise InputRefusedError(
                f"{field}: {folder}: {str(error).splitlines()[0]}; it needs a folder of whole images for each class"
            ) from error
        except RuntimeError as error:
            raise InputRefusedError(
                f"{field}: {folder}: {str(error).splitlines()[0]}; images of different sizes need ?size= in the URI"
            ) from error
        if classes is not None and found.classes != classes:
            raise InputRefusedError(f"{field}: {folder} has other classes than {train}")
        classes = found.classes
        parts.append((images, torch.tensor(found.targets)))
    mean = parts[0][0].mean(dim=(0, 2, 3), keepdim=True)
    deviation = parts[0][0].std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-6)
    one, other = (Samples(((images - mean) / deviation,), labels) for images, labels in parts)
    return Splits(one, other, tuple(classes or ()))
