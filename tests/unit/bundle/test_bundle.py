"""A bundle gives back the model that was put in, or refuses."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from coppice_api.bundle import ArchitectureSource, InputSpec
from coppice_pruner.bundle import BundleRefusedError, bundle_digest, export_bundle, load_bundle, read_manifest
from coppice_pruner.errors import PrunerError
from coppice_pruner.models import ArchitectureRefusedError, LoadedModel, build
from coppice_pruner.surgery import find_groups, prune, to_steps

SOURCES = {
    "vgg": ArchitectureSource(source="coppice://vgg", arguments={"widths": [[8, 8], [12]]}),
    "resnet": ArchitectureSource(source="coppice://resnet", arguments={"widths": [8, 12], "blocks": 1}),
}
IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def pruned_model(source: ArchitectureSource) -> LoadedModel:
    torch.manual_seed(0)
    dense = build(source)
    inputs = (torch.zeros(2, 1, 8, 8),)
    groups = find_groups(dense, inputs)
    kept = {group.name: tuple(range(0, group.width, 2)) for group in groups}
    return LoadedModel(
        prune(dense, inputs, kept), source, (InputSpec(shape=(1, 8, 8)),), pruning_plan=to_steps(kept, groups)
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pruned bundle that tests only read."""
    directory = tmp_path_factory.mktemp("bundles") / "pruned"
    export_bundle(pruned_model(SOURCES["vgg"]), directory)
    return directory


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    import shutil

    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_a_pruned_model_comes_back_with_its_outputs(source: ArchitectureSource, tmp_path: Path) -> None:
    model = pruned_model(source)
    digest = export_bundle(model, tmp_path / "bundle")
    again = load_bundle(tmp_path / "bundle", sha256=digest)
    torch.testing.assert_close(again.module(IMAGES), model.module(IMAGES), rtol=0, atol=1e-5)
    assert again.sha256 == digest
    assert again.pruning_plan == model.pruning_plan


def test_the_exported_program_takes_any_batch_and_gives_the_same(exported: Path) -> None:
    module = torch.export.load(exported / "model.pt2").module()
    want = load_bundle(exported).module(IMAGES)
    torch.testing.assert_close(module(IMAGES), want, rtol=0, atol=1e-5)
    assert module(IMAGES[:1]).shape == (1, 10)


def test_the_onnx_file_is_valid_and_its_batch_is_dynamic(exported: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(model)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_both_programs_are_the_model_as_it_is_deployed_norms_folded(exported: Path) -> None:
    dense = build(SOURCES["vgg"])
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in dense.modules())
    operators = {str(node.target) for node in torch.export.load(exported / "model.pt2").graph.nodes}
    assert not [name for name in operators if "batch_norm" in name]
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(exported / "model.onnx").graph.node}


def test_there_is_no_pickle_anywhere(exported: Path) -> None:
    # A pickle of protocol 2 or later begins with 0x80 and the protocol; torch.save writes data.pkl into a zip.
    for path in exported.iterdir():
        members: dict[str, bytes] = {path.name: path.read_bytes()}
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members |= {name: archive.read(name) for name in archive.namelist()}
        for name, content in members.items():
            assert not name.endswith((".pkl", ".pickle")), name
            assert b"data.pkl" not in content, name


def test_a_digest_that_is_not_the_one_asked_for_is_refused(bundle: Path) -> None:
    with pytest.raises(BundleRefusedError, match="was asked for"):
        load_bundle(bundle, sha256="0" * 64)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt2", "model.onnx"])
def test_a_damaged_file_is_refused_by_name(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleRefusedError, match=f"{name} is damaged"):
        load_bundle(bundle)


def test_a_truncated_bundle_is_refused(bundle: Path) -> None:
    (bundle / "model.safetensors").unlink()
    with pytest.raises(BundleRefusedError, match=r"model\.safetensors cannot be read"):
        load_bundle(bundle)


def test_a_directory_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRefusedError, match="is not a bundle"):
        load_bundle(tmp_path)


def edit(bundle: Path, **changes: Any) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_a_manifest_cannot_name_code_of_its_own(bundle: Path) -> None:
    edit(bundle, architecture={"source": "python://os:system", "arguments": {"command": "true"}})
    with pytest.raises(ArchitectureRefusedError, match="'os' is not trusted"):
        load_bundle(bundle)


def test_a_manifest_cannot_reach_outside_its_directory(bundle: Path) -> None:
    edit(bundle, files={"../../etc/passwd": {"sha256": "0" * 64, "sizeBytes": 1}})
    with pytest.raises(BundleRefusedError, match="not a plain file name"):
        read_manifest(bundle)


def test_a_schema_of_the_future_is_refused(bundle: Path) -> None:
    edit(bundle, schemaVersion="coppice.dev/bundle/v9")
    with pytest.raises(BundleRefusedError, match="this version reads"):
        read_manifest(bundle)


def test_weights_of_another_architecture_are_refused(bundle: Path) -> None:
    edit(
        bundle,
        architecture=SOURCES["vgg"].model_dump() | {"arguments": {"widths": [[8, 8], [12]], "classes": 3}},
    )
    with pytest.raises(BundleRefusedError, match="does not fit its architecture"):
        load_bundle(bundle)


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    model = pruned_model(SOURCES["vgg"])
    with torch.no_grad():
        next(model.module.parameters()).fill_(float("nan"))
    with pytest.raises(PrunerError, match="differs from the model in memory"):
        export_bundle(model, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_never_overwritten(bundle: Path) -> None:
    before = bundle_digest(bundle)
    with pytest.raises(FileExistsError):
        export_bundle(pruned_model(SOURCES["vgg"]), bundle)
    assert bundle_digest(bundle) == before


def test_another_user_may_read_all_of_it(exported: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in exported.rglob("*") if path.is_file()} == {0o644}
    assert exported.stat().st_mode & 0o777 == 0o755
