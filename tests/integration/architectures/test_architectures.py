"""Every architecture: pruned in width and depth, held to the masked dense model, exported, reloaded elsewhere.

The table in docs/architectures.md is what these tests found; `make architectures` writes it anew.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from coppice_pruner.allocation import Kept
from coppice_pruner.bundle import export_bundle, read_manifest
from coppice_pruner.deployment import folded
from coppice_pruner.models import LoadedModel
from coppice_pruner.models.huggingface_export import write_huggingface
from coppice_pruner.surgery import TOLERANCE, Blueprint, ChannelGroup, inspect_groups, to_steps
from tests.integration.architectures.instances import INSTANCES, Instance

DOCUMENT = Path(__file__).parents[3] / "docs" / "architectures.md"
BEGIN, END = "<!-- table: written by make architectures -->", "<!-- end of table -->"
HEADER = (
    "| architecture | published as | widths | heads | branches that can go | left as they are | `from_pretrained` |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)
MAX_DIFFERENCE = 1e-5
# Exporters and torchao warn of their own dependencies' deprecations.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def rows() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("bundles")


@pytest.mark.parametrize("instance", INSTANCES, ids=[item.source + item.name for item in INSTANCES])
def test_it_is_pruned_in_width_and_depth_and_exported(instance: Instance, rows: dict[str, str], bundles: Path) -> None:
    dense = instance.load()
    samples = instance.samples(8, seed=2)
    inspection = inspect_groups(dense.module, samples)
    blueprint = Blueprint(inspection.groups, samples)
    rows[_place(instance)] = _row(instance, inspection.groups, len(inspection.refused), _expressible(dense, blueprint))
    assert inspection.groups, [item.reason for item in inspection.refused]
    halves = {
        group.name: tuple(sorted(index for atom in group.atoms[::2] for index in atom)) for group in inspection.groups
    }
    narrow = blueprint.prune(dense.module, {}, halves)
    blueprint.check(dense.module, narrow, {}, halves, samples)
    _learns(blueprint, narrow, halves)
    # Every other branch that can go does, in a second step: what follows from the first must still fit.
    gone: dict[str, tuple[int, ...]] = {
        group.name: () for group in [item for item in inspection.groups if item.droppable][::2]
    }
    pruned = blueprint.prune(narrow, halves, gone)
    blueprint.check(narrow, pruned, halves, gone, samples)
    model = LoadedModel(
        pruned, dense.architecture, dense.inputs, dense.classes, to_steps({**halves, **gone}, inspection.groups)
    )
    with torch.inference_mode():
        want = pruned(*samples)
        deployed = folded(pruned, samples)(*samples)
    # Folding multiplies before it sums: rounding, as much as the invariant allows for the same reason.
    assert float((deployed - want).abs().max()) <= TOLERANCE * float(want.abs().max())
    directory = bundles / _place(instance)
    export_bundle(model, directory)
    # A dropped branch, or heads of some layers, is more than config.json can say.
    said = read_manifest(directory).omitted.get("huggingface")
    assert (said is not None) == instance.origin.startswith("transformers"), said
    save_file(
        {f"input{index}": item for index, item in enumerate(samples)} | {"again": want, "exported": deployed},
        f"{directory}.samples",
    )


def test_the_bundles_load_in_a_fresh_process_and_give_the_same_outputs(bundles: Path) -> None:
    found = sorted(bundles.glob("*.samples"))
    if len(found) < len(INSTANCES):
        pytest.skip("some architectures were not run, so not all bundles are there")
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from safetensors.torch import load_file, save_file\n"
        "from coppice_pruner.bundle import load_bundle\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    samples = load_file(path)\n"
        "    inputs = [samples[f'input{index}'] for index in range(len(samples) - 2)]\n"
        "    with torch.inference_mode():\n"
        "        loaded = load_bundle(path.with_suffix('')).module\n"
        "        save_file({'outputs': loaded(*inputs).contiguous()}, f'{path}.again')\n"
        "        program = torch.export.load(path.with_suffix('') / 'model.pt2').module()\n"
        "        save_file({'outputs': program(*inputs).contiguous()}, f'{path}.exported')\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, *map(str, found)], check=True, timeout=500)
    for path in found:
        for kind in ("again", "exported"):
            want = load_file(path)[kind]
            got = load_file(f"{path}.{kind}")["outputs"]
            assert float((got - want).abs().max()) <= MAX_DIFFERENCE * max(1.0, float(want.abs().max())), (path, kind)


def test_the_table_in_the_documents_is_what_was_found(rows: dict[str, str]) -> None:
    if len(rows) < len(INSTANCES):
        pytest.skip("some architectures were not run, so the table is not whole")
    table = "\n".join([HEADER, *(rows[_place(item)] for item in INSTANCES)])
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    inside, _, after = rest.partition(END)
    if os.environ.get("WRITE_TABLE"):
        DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")
        return
    assert inside.strip() == table, "run `make architectures`"


def _learns(blueprint: Blueprint, model: nn.Module, kept: Kept) -> None:
    """Assert that a model is given what one cut from it learned, channel by channel."""
    fewer = {
        group.name: tuple(sorted(index for atom in group.atoms[: max(1, len(group.atoms) // 2)] for index in atom))
        for group in blueprint.groups_at(model, kept)
    }
    teacher, pupil = blueprint.prune(model, kept, fewer), copy.deepcopy(model)
    with torch.no_grad():
        for item in teacher.parameters():
            item.add_(1)
    blueprint.teach(pupil, model, kept, {}, teacher, fewer)
    torch.testing.assert_close(
        blueprint.prune(pupil, kept, fewer).state_dict(), teacher.state_dict(), rtol=0, atol=0, equal_nan=True
    )


def _place(instance: Instance) -> str:
    return f"{INSTANCES.index(instance):02d}"


def _row(instance: Instance, groups: tuple[ChannelGroup, ...], refused: int, expressible: str) -> str:
    heads = sum(group.attention is not None for group in groups)
    drops = sum(group.droppable for group in groups)
    return (
        f"| {instance.name} | {instance.origin} | {len(groups) - heads} | {heads or '—'} | {drops or '—'} | "
        f"{refused or '—'} | {expressible} |"
    )


def _expressible(dense: LoadedModel, blueprint: Blueprint) -> str:
    """Return what may become narrower, alike in all layers, so that `from_pretrained` still loads the model."""
    if not dense.architecture.source.startswith("transformers://"):
        return "—"

    def loads(chosen: list[ChannelGroup]) -> bool:
        kept = {group.name: tuple(sorted(index for atom in group.atoms[::2] for index in atom)) for group in chosen}
        model = dataclasses.replace(
            dense, module=blueprint.prune(dense.module, {}, kept), pruning_plan=to_steps(kept, blueprint.groups)
        )
        with tempfile.TemporaryDirectory() as directory:
            return bool(chosen) and not write_huggingface(model, Path(directory) / "huggingface")

    if loads(list(blueprint.groups)):
        return "all"
    parts = {
        "perceptrons": [group for group in blueprint.groups if group.droppable and not group.attention],
        "heads": [group for group in blueprint.groups if group.attention],
    }
    return ", ".join(name for name, chosen in parts.items() if loads(chosen)) or "—"
