"""The only place that knows the pruner: loading a bundle, and the labelled data to probe it with.

`coppice_pruner` verifies every file against the manifest and builds the module from installed code; nothing
is unpickled. Its errors are translated here, once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coppice_api import BundleManifest
from inference_server.errors import RefusedError
from inference_server.location import MANIFEST_NAME
from inference_server.protocol import TensorSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoadedBundle:
    """A module ready to compute, and what it takes."""

    module: torch.nn.Module
    input: TensorSpec
    memory_bytes: int
    """Parameters and buffers as they are stored, integers as integers."""


def load(directory: Path, device: torch.device) -> LoadedBundle:
    """Load a bundle onto a device.

    Raises:
        RefusedError: If it is damaged, or not one this server can serve.
    """
    import coppice_pruner
    from coppice_pruner.deployment import folded
    from coppice_pruner.storage.weights import memory_bytes

    spec = _input_spec(directory)
    try:
        model = coppice_pruner.load_bundle(directory)
        # As the run measured it: with norms that are still there, the fleet would pay for what the report does not.
        module = folded(model.module, model.example_inputs()).to(device)
    except Exception as error:
        raise RefusedError(f"the bundle in {directory} cannot be loaded: {error}") from error
    return LoadedBundle(module, spec, memory_bytes(module))


def held_out(dataset_uri: str, claim_mounts: Mapping[str, Path]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the held-out split of a data set: inputs of shape (N, *input) and labels of shape (N,).

    Raises:
        RefusedError: If it cannot be loaded.
    """
    from coppice_pruner.data import load as load_dataset
    from coppice_pruner.errors import PrunerError

    try:
        splits = load_dataset(dataset_uri)
    except PrunerError as error:
        raise RefusedError(f"PROBE_DATASET: {error}") from error
    return splits.evaluation.inputs[0].numpy(), splits.evaluation.targets.numpy()


def _input_spec(directory: Path) -> TensorSpec:
    try:
        manifest = BundleManifest.model_validate_json((directory / MANIFEST_NAME).read_bytes())
    except (ValueError, json.JSONDecodeError) as error:
        raise RefusedError(f"{directory / MANIFEST_NAME} is not a bundle's manifest: {error}") from error
    if len(manifest.inputs) != 1 or manifest.inputs[0].dtype != "float32":
        inputs = ", ".join(f"{item.name} ({item.dtype})" for item in manifest.inputs) or "none"
        raise RefusedError(f"the bundle in {directory} takes {inputs}: this server serves one float32 input")
    return TensorSpec(manifest.inputs[0].name, manifest.inputs[0].shape)
