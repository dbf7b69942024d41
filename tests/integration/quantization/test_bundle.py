"""A quantized bundle gives back the integers that were put in, here and where they are served."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from coppice_api.bundle import ArchitectureSource, InputSpec, Quantized
from coppice_api.prunejob import QuantizationScheme
from coppice_pruner.bundle import BundleRefusedError, export_bundle, load_bundle, read_manifest
from coppice_pruner.deployment import folded
from coppice_pruner.models import LoadedModel, build
from coppice_pruner.quantization import quantized
from coppice_pruner.surgery import find_groups, prune, to_steps

EXAMPLES = Path(__file__).parents[3] / "examples" / "inference-server"
IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SCHEMES = list(QuantizationScheme)


def pruned_and_quantized(scheme: QuantizationScheme) -> LoadedModel:
    """Return a model with norms to fold, channels to remove, and one linear layer."""
    torch.manual_seed(0)
    source = ArchitectureSource(source="coppice://vgg", arguments={"widths": [[8], [24]]})
    dense = build(source)
    groups = find_groups(dense, (IMAGES,))
    kept = {group.name: tuple(range(0, group.width, 2)) for group in groups}
    how = Quantized(scheme=scheme)
    module = quantized(folded(prune(dense, (IMAGES,), kept), (IMAGES,)), how)
    return LoadedModel(
        module, source, (InputSpec(shape=(1, 8, 8)),), pruning_plan=to_steps(kept, groups), quantization=how
    )  # fmt: skip


@pytest.fixture(scope="module", params=SCHEMES, ids=lambda scheme: scheme.value)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Path]:
    """A quantized model and its bundle, which tests only read."""
    model = pruned_and_quantized(request.param)
    directory = tmp_path_factory.mktemp("quantized") / "bundle"
    export_bundle(model, directory)
    return model, directory


def test_a_quantized_model_comes_back_with_its_outputs(exported: tuple[LoadedModel, Path]) -> None:
    model, directory = exported
    again = load_bundle(directory)
    torch.testing.assert_close(again.module(IMAGES), model.module(IMAGES), rtol=0, atol=1e-5)
    assert again.quantization == model.quantization
    assert again.pruning_plan == model.pruning_plan


def test_weights_and_programs_hold_no_pickle(exported: tuple[LoadedModel, Path]) -> None:
    _, directory = exported
    for path in directory.iterdir():
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    assert b"data.pkl" not in archive.read(name), f"{path.name}: {name}"


def test_the_programs_run_where_there_is_no_torchao(exported: tuple[LoadedModel, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model, directory = exported
    assert not read_manifest(directory).omitted
    save_file({"images": IMAGES}, tmp_path / "in.safetensors")
    script = (
        "import sys\n"
        "sys.modules['torchao'] = None\n"
        "import onnxruntime, torch\n"
        "from safetensors.torch import load_file, save_file\n"
        "directory, work = sys.argv[1:]\n"
        "images = load_file(f'{work}/in.safetensors')['images']\n"
        "session = onnxruntime.InferenceSession(f'{directory}/model.onnx', providers=['CPUExecutionProvider'])\n"
        "onnx = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]\n"
        "exported = torch.export.load(f'{directory}/model.pt2').module()(images)\n"
        "save_file({'onnx': torch.from_numpy(onnx), 'pt2': exported.detach()}, f'{work}/out.safetensors')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory), str(tmp_path)], capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = load_file(tmp_path / "out.safetensors")
    want = model.module(IMAGES)
    torch.testing.assert_close(found["pt2"], want, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["onnx"], want, rtol=0, atol=1e-5)


def test_without_torchao_the_bundle_is_refused_with_what_to_install(
    exported: tuple[LoadedModel, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(BundleRefusedError, match=r"is quantized \(Int8\w+\) and needs .*coppice\[int8\]"):
        load_bundle(exported[1])


def test_the_inference_server_serves_the_integers(
    exported: tuple[LoadedModel, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from inference_server import bundles
    from inference_server.errors import RefusedError

    from coppice_pruner.storage.weights import memory_bytes

    model, directory = exported
    served = bundles.load(directory, torch.device("cpu"))
    torch.testing.assert_close(served.module(IMAGES), model.module(IMAGES), rtol=0, atol=1e-5)
    assert served.memory_bytes == memory_bytes(model.module)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(RefusedError, match=r"needs the package torchao: install coppice\[int8\]"):
        bundles.load(directory, torch.device("cpu"))
