"""Which architectures a manifest may name."""

from __future__ import annotations

import pytest
import torch

from coppice_api.bundle import ArchitectureSource
from coppice_pruner.models import ArchitectureRefusedError, build


@pytest.mark.parametrize("name", ["vgg", "resnet"])
def test_the_zoo_takes_small_images(name: str) -> None:
    module = build(ArchitectureSource(source=f"coppice://{name}", arguments={"classes": 7}))
    assert module(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    assert not module.training


@pytest.mark.parametrize(
    ("source", "arguments", "want"),
    [
        ("coppice://alexnet", {}, "there are coppice://vgg"),
        ("coppice://vgg", {"width": 3}, "unexpected keyword argument 'width'"),
        ("http://example.com/model.py", {}, "use coppice://"),
        ("python://torch.hub:load", {}, "'torch' is not trusted"),
    ],
    ids=["unknown", "wrong argument", "wrong scheme", "untrusted package"],
)
def test_others_are_refused_with_what_would_be_right(source: str, arguments: dict[str, int], want: str) -> None:
    with pytest.raises(ArchitectureRefusedError, match=want):
        build(ArchitectureSource(source=source, arguments=arguments))


def test_a_trusted_package_may_build() -> None:
    source = ArchitectureSource(source="python://torch.nn:Linear", arguments={"in_features": 4, "out_features": 2})
    assert build(source, trusted_packages=["torch"])(torch.zeros(1, 4)).shape == (1, 2)


@pytest.mark.parametrize("source", ["python://torch.nn:Nowhere", "python://torch.nowhere:Linear", "python://torch:int"])
def test_a_trusted_package_without_that_factory_is_refused(source: str) -> None:
    with pytest.raises(ArchitectureRefusedError, match="architecture python://torch"):
        build(ArchitectureSource(source=source), trusted_packages=["torch"])
