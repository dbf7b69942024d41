"""Data that a run cannot use is refused before anything is measured, naming the field and what would be right."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_pruner.data import Samples, Splits, load
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models import LoadedModel
from coppice_pruner.run.fit import fitted, inputs_digest

MODEL = LoadedModel(
    nn.Linear(4, 3).eval(), ArchitectureSource(source="python://x:y"), (InputSpec(shape=(4,)),), ("a", "b", "c")
)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def samples(inputs: Tensor | None = None, targets: Tensor = LABELS) -> Samples:
    return Samples((torch.zeros(len(targets), 4) if inputs is None else inputs,), targets)


def splits(train: Samples | None = None, evaluation: Samples | None = None) -> Splits:
    # An empty split is falsy.
    train, evaluation = (samples() if item is None else item for item in (train, evaluation))
    return Splits(train, evaluation, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (splits(train=samples(targets=LABELS[:0])), "the training split has 0 samples; it needs 2 at least"),
        (splits(evaluation=samples(targets=LABELS[:1])), "the evaluation split has 1 samples"),
        (splits(train=samples(targets=0 * LABELS)), "every sample of the training split has label 0"),
        (splits(evaluation=samples(targets=LABELS + 1)), "has label 3; with 3 classes labels are 0 to 2"),
        (splits(train=samples(targets=LABELS - 1)), "the training split has label -1"),
        (splits(train=samples(targets=LABELS.float())), "targets of type torch.float32; labels are integers"),
        (splits(train=samples(targets=torch.eye(3).long())), r"targets of shape \(3, 3\); labels have \(3,\)"),
        (splits(train=samples(torch.zeros(5, 4))), "the training split has more samples than targets, or fewer"),
        (splits(train=samples(torch.full((6, 4), float("nan")))), "the training split holds values that are NaN"),
        (splits(samples(torch.zeros(6, 5)), samples(torch.zeros(6, 5))), r"shape \(5,\), but the model"),
        (splits(evaluation=samples(torch.zeros(6, 5))), r"shape \(4,\), those of the evaluation.*\(5,\)"),
    ],
    ids=[
        "empty", "one sample", "one class", "label too high", "negative label", "labels of floats", "one-hot labels",
        "fewer inputs", "NaN", "other shape", "splits of two shapes",
    ],
)  # fmt: skip
def test_it_is_refused(data: Splits, message: str) -> None:
    with pytest.raises(InputRefusedError, match=rf"spec\.dataset\.uri.*{message}"):
        fitted(MODEL, data)


def test_a_model_with_broken_weights_is_refused() -> None:
    broken = nn.Linear(4, 3)
    nn.init.constant_(broken.weight, float("inf"))
    with pytest.raises(InputRefusedError, match=r"spec\.model\.uri: the model gives NaN or infinite outputs"):
        fitted(dataclasses.replace(MODEL, module=broken), splits())


def test_unbalanced_data_is_said_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    labels = torch.tensor([1] * 19 + [0])
    with caplog.at_level(logging.WARNING):
        fitted(MODEL, splits(evaluation=samples(targets=labels)))
    assert "95 % of the evaluation split have label 1, so accuracy says little" in caplog.text


def test_the_digest_of_the_inputs_tells_models_and_data_apart() -> None:
    base = inputs_digest(MODEL, splits())
    assert inputs_digest(MODEL, splits()) == base
    assert inputs_digest(dataclasses.replace(MODEL, module=nn.Linear(4, 3)), splits()) != base
    assert inputs_digest(MODEL, splits(train=samples(torch.ones(6, 4)))) != base


def arrays() -> dict[str, np.ndarray]:
    return {
        "train_inputs": np.zeros((6, 4), np.float32), "train_targets": LABELS.numpy(),
        "evaluation_inputs": np.zeros((6, 4), np.float32), "evaluation_targets": LABELS.numpy(),
    }  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("name", ["data.npz", "data.safetensors"])
def test_a_truncated_file_is_refused_with_its_name(name: str, share: float, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / name
    np.savez(path, **arrays()) if name.endswith("npz") else save_file(arrays(), path)
    assert len(load(f"file://{tmp_path}").train) == 6
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        InputRefusedError, match=rf"spec\.dataset\.uri file://.*{name} cannot be read.*write the file again"
    ):
        load(f"file://{tmp_path}")


def test_empty_arrays_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **{**arrays(), "evaluation_targets": np.zeros(0, np.int64)})
    with pytest.raises(InputRefusedError, match=r"the array evaluation_targets of shape \(0,\) is empty"):
        load(f"file://{tmp_path}")


def test_images_of_bytes_are_not_taken_for_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **{**arrays(), "train_inputs": np.zeros((6, 8, 8, 3), np.uint8)})
    with pytest.raises(
        InputRefusedError, match=r"train_inputs of shape \(6, 8, 8, 3\) holds torch.uint8; images are float32"
    ):
        load(f"file://{tmp_path}")


def test_a_truncated_image_is_not_taken_for_one_of_another_size(tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            Image.new("RGB", (16, 16), "red").save(tmp_path / split / label / "1.png")
    load(f"file://{tmp_path}")
    path = tmp_path / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputRefusedError, match=r"truncated.*whole images for each class"):
        load(f"file://{tmp_path}")
    with pytest.raises(InputRefusedError, match="size is 'big'; it is the height and width"):
        load(f"file://{tmp_path}?size=big")


def test_a_copy_of_what_is_not_local_goes_as_soon_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    targets = np.array([0, 1, 2], dtype=np.int64)
    arrays = {name: np.zeros((3, 1, 2, 2), np.float32) for name in ("train_inputs", "evaluation_inputs")}
    np.savez(tmp_path / "data.npz", **arrays, train_targets=targets, evaluation_targets=targets)
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/data/data.npz", (tmp_path / "data.npz").read_bytes())
    for scratch in (None, tmp_path / "scratch"):
        for uri in ("memory://bucket/data", f"file://{tmp_path}"):
            assert len(load(uri, scratch=scratch).train) == 3
        with pytest.raises(InputRefusedError, match="there is no such directory"):
            load("memory://bucket/nothing", scratch=scratch)
    assert not [*(tmp_path / "temporary").iterdir(), *(tmp_path / "scratch").iterdir()]
