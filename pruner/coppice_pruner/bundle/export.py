"""Writes a bundle: aside, fsynced, verified by loading it again, then renamed into place."""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import tempfile
import warnings
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path

import torch
from safetensors.torch import save_file

from coppice_api.bundle import (
    EXPORTED_NAME,
    MANIFEST_NAME,
    ONNX_NAME,
    REPORT_NAME,
    WEIGHTS_NAME,
    BundleFile,
    BundleManifest,
)
from coppice_api.run import RunReport
from coppice_pruner.bundle.load import bundle_digest, load_bundle
from coppice_pruner.errors import PrunerError
from coppice_pruner.models import LoadedModel
from coppice_pruner.storage.durable import sync_directory

MAX_DIFFERENCE = 1e-5
"""Greatest absolute difference of outputs between the model in memory and the bundle loaded again."""


def export_bundle(
    model: LoadedModel,
    directory: Path,
    *,
    report: RunReport | None = None,
    parent_sha256: str | None = None,
    report_html: str | None = None,
    trusted_packages: tuple[str, ...] = (),
) -> str:
    """Write a model as a bundle and return its digest. Nothing appears at `directory` unless all of it is right.

    Args:
        model: The model with its plan.
        directory: Must not exist yet.
        report: Figures to put into the manifest.
        parent_sha256: Digest of the model it was pruned from.
        report_html: The report for people.
        trusted_packages: As for `load_bundle`, which checks the result.

    Raises:
        FileExistsError: If the directory exists.
        PrunerError: If the bundle loaded again does not give the same outputs.
    """
    if directory.exists():
        raise FileExistsError(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
    try:
        if report_html is not None:
            (aside / REPORT_NAME).write_text(report_html, encoding="utf-8")
        _write(model, aside, report, parent_sha256)
        _verify(model, aside, trusted_packages)
        sync_directory(aside)
        aside.chmod(0o755)
        aside.rename(directory)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return bundle_digest(directory)


def _write(model: LoadedModel, aside: Path, report: RunReport | None, parent_sha256: str | None) -> None:
    module = model.module.eval()
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, aside / WEIGHTS_NAME)
    with warnings.catch_warnings():
        # The exporters warn of their own dependencies' deprecations, which nobody here can act on.
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch", min=1, max=65536)
        program = torch.export.export(
            module, model.example_inputs(), dynamic_shapes=tuple({0: batch} for _ in model.inputs)
        )
        # Example inputs would be kept as a pickle inside the archive.
        program.example_inputs = None
        torch.export.save(program, aside / EXPORTED_NAME)
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with redirect_stdout(io.StringIO()):
            onnx_program = torch.onnx.export(program, dynamo=True, verbose=False)
        if onnx_program is None:
            raise PrunerError("the ONNX exporter gave nothing")
        onnx_program.save(aside / ONNX_NAME)
    files = {path.name: _entry(path) for path in sorted(aside.iterdir())}
    manifest = BundleManifest(
        task=model.task,
        architecture=model.architecture,
        pruning_plan=model.pruning_plan,
        inputs=model.inputs,
        classes=model.classes,
        files=files,
        parent_sha256=parent_sha256,
        report=report,
        created_by=f"coppice {metadata.version('coppice')}",
    )
    text = manifest.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    (aside / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def _verify(model: LoadedModel, aside: Path, trusted_packages: tuple[str, ...]) -> None:
    again = load_bundle(aside, trusted_packages=trusted_packages)
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(torch.randn((4, *item.shape), generator=generator) for item in model.inputs)
    with torch.inference_mode():
        difference = float((again.module(*inputs) - model.module(*inputs)).abs().max())
    # Written so that NaN fails too.
    if not difference <= MAX_DIFFERENCE:
        raise PrunerError(
            f"the bundle loaded again differs from the model in memory by {difference:.2g} "
            f"(allowed: {MAX_DIFFERENCE:g}); it was not kept"
        )


def _entry(path: Path) -> BundleFile:
    with path.open("rb") as stream:
        return BundleFile(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), size_bytes=path.stat().st_size)
