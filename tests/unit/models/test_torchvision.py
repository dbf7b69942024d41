"""Weights of torchvision's architectures, as a person saves them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models.torchvision import load_torchvision


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121", "squeezenet1_1"])
def test_the_number_of_classes_is_read_from_the_weights(name: str, tmp_path: Path) -> None:
    dense = models.get_model(name, weights=None, num_classes=7).eval()
    save_file(dense.state_dict(), tmp_path / "weights.safetensors")
    loaded = load_torchvision(f"torchvision://{name}?weights=x&size=64", tmp_path / "weights.safetensors")
    assert loaded.classes == tuple("0123456")
    image = torch.zeros(1, 3, 64, 64)
    torch.testing.assert_close(loaded.module(image), dense(image))


def test_weights_of_another_architecture_are_refused_by_name(tmp_path: Path) -> None:
    save_file(models.densenet121(num_classes=2).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(InputRefusedError, match=r"the weights have no fc\.bias; they are not those of resnet18"):
        load_torchvision("torchvision://resnet18?weights=x", tmp_path / "weights.safetensors")
