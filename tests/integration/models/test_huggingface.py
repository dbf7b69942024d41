"""A Hugging Face directory goes through a whole run, as a bundle does, and nothing in it is executed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification

from coppice_api.run import Outcome
from coppice_pruner import load_bundle
from coppice_pruner.data import digits
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models.huggingface import load_huggingface
from coppice_pruner.run import Journal, execute
from coppice_pruner.training import evaluate
from tests import machine


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ResNet as `save_pretrained` leaves it, trained for a moment on the digits."""
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 24], depths=[1, 1], layer_type="basic",
        downsample_in_first_stage=False, id2label={index: str(index) for index in range(10)},
        label2id={str(index): index for index in range(10)},
    )  # fmt: skip
    config.image_size = 8
    model = ResNetForImageClassification(config)
    data = digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        for chosen in torch.randperm(len(data.train.targets), generator=generator).split(64):
            loss = model(pixel_values=data.train.inputs[0][chosen], labels=data.train.targets[chosen]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    target = tmp_path_factory.mktemp("huggingface")
    model.save_pretrained(target)
    return target


def test_a_run_prunes_it_and_leaves_a_bundle_that_loads(directory: Path, tmp_path: Path) -> None:
    config = machine.config(
        tmp_path, model__uri=f"file://{directory}", objective__energyReductionPercent=10,
        objective__maxAccuracyDropPoints="40",
    )  # fmt: skip
    report = execute(config, Journal(20))
    # Whether so small a model can save energy is not the question: it is that whatever was found ships whole.
    assert report.outcome in (Outcome.TARGET_MET, Outcome.TARGET_NOT_MET), report.message
    assert report.artifact is not None, report.message
    assert report.pruned is not None
    assert report.dense is not None
    assert report.pruned.parameters < report.dense.parameters
    loaded = load_bundle(report.artifact.uri.removeprefix("file://"), sha256=report.artifact.sha256)
    data = digits()
    quality = evaluate(loaded.module, data.evaluation, data.task)
    assert quality.accuracy_ratio == pytest.approx(report.pruned.accuracy_ratio)
    assert loaded.architecture.source == "transformers://image-classification"


def test_it_gives_the_logits_that_transformers_gives(directory: Path) -> None:
    images = digits().evaluation.inputs[0][:5]
    with torch.inference_mode():
        want = ResNetForImageClassification.from_pretrained(directory).eval()(pixel_values=images).logits
        got = load_huggingface(directory).module(images)
    torch.testing.assert_close(got, want)


def test_a_pinned_digest_is_checked(directory: Path) -> None:
    loaded = load_huggingface(directory)
    assert loaded.sha256 is not None
    load_huggingface(directory, sha256=loaded.sha256)
    with pytest.raises(InputRefusedError, match=r"spec\.model\.sha256"):
        load_huggingface(directory, sha256="c" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "names code of its own"),
        ({"model_type": "no-such-model"}, "not an image classifier this version can load"),
        ({"image_size": None}, "add image_size"),
        ({"hidden_sizes": [16, 32]}, "not an image classifier this version can load"),
    ],
)
def test_a_directory_that_cannot_be_used_says_why(
    directory: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = json.loads((directory / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if value is not None})
    )
    (tmp_path / "model.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    with pytest.raises(InputRefusedError, match=message):
        load_huggingface(tmp_path)


def test_weights_in_a_pickle_are_never_loaded(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InputRefusedError, match="are never loaded"):
        load_huggingface(tmp_path)
