"""Trains a convolutional network on the real digits and leaves it as a bundle. Run again, it finds the bundle.

python -m digits.train --output file:///tmp/coppice/digits
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from coppice_api.bundle import MANIFEST_NAME, ArchitectureSource, InputSpec
from coppice_api.prunejob import FineTune
from coppice_pruner.bundle import export_bundle
from coppice_pruner.data import load
from coppice_pruner.errors import PrunerError
from coppice_pruner.models import LoadedModel, build
from coppice_pruner.storage import open_place
from coppice_pruner.training import evaluate, fine_tune

WIDTHS = ((64, 64), (128, 128), (256, 256))
SETTINGS = FineTune(epochs=15, learning_rate="0.002")
SEED = 0


def main(arguments: list[str]) -> int:
    """Train and export; exit 1 with one sentence where that fails."""
    parser = argparse.ArgumentParser(prog="python -m digits.train", description=__doc__)
    parser.add_argument("--output", required=True, help="where the bundle goes: file:///dir or pvc://claim/dir")
    options = parser.parse_args(arguments)
    try:
        train(options.output, json.loads(os.environ.get("CLAIM_MOUNTS", "{}")))
    except PrunerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def train(output: str, claim_mounts: dict[str, str]) -> None:
    """Train the dense model unless it is there already."""
    parent, _, name = output.rstrip("/").rpartition("/")
    place = open_place(parent, field="--output", claim_mounts=claim_mounts)
    if place.read(f"{name}/{MANIFEST_NAME}") is not None:
        print(f"{output} is there already", flush=True)
        return
    started = time.monotonic()
    torch.manual_seed(SEED)
    source = ArchitectureSource(source="coppice://vgg", arguments={"widths": [list(block) for block in WIDTHS]})
    module, data = build(source), load("builtin://digits")
    fine_tune(
        module, data, SETTINGS, seed=SEED,
        on_epoch=lambda epoch, loss: print(f"epoch {epoch:>2}/{SETTINGS.epochs}  loss {loss:.4f}", flush=True),
    )  # fmt: skip
    accuracy_ratio = evaluate(module, data.evaluation, data.task).accuracy_ratio
    model = LoadedModel(module, source, (InputSpec(shape=tuple(data.train.inputs[0].shape[1:])),), data.classes)
    with tempfile.TemporaryDirectory() as scratch:
        sha256 = export_bundle(model, Path(scratch) / "bundle")
        place.publish(Path(scratch) / "bundle", name, last=MANIFEST_NAME)
    print(f"trained in {time.monotonic() - started:.0f} s, accuracy {accuracy_ratio:.2%}, sha256 {sha256}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
