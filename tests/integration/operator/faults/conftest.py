"""A world of its own for each test, on the shared control plane."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import Cluster
from tests.integration.conftest import Kubectl
from tests.integration.operator.faults.world import World


@pytest.fixture
def world(cluster: Cluster, kubectl: Kubectl, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A namespace with an operator behind a proxy that does no wrong yet."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:45].strip("-")
    # Parameters may be cut off, and a namespace takes its time to end.
    with World(cluster, f"f-{name}-{secrets.token_hex(3)}", tmp_path) as made:
        yield made
