"""What is asked of an image, once a module has built it: each has fixtures `buildah` and `image` of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.images.buildah import Buildah, Config


@pytest.fixture(scope="module")
def config(buildah: Buildah, image: str) -> Config:
    return buildah.config(image)


@pytest.fixture(scope="module")
def root(buildah: Buildah, image: str) -> Iterator[Path]:
    with buildah.mounted(image) as path:
        yield path
