"""Writes a bundle: aside, fsynced, verified by loading it again, then renamed into place."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import warnings
from importlib import metadata
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from coppice_api.bundle import (
    EXPORTED_NAME,
    HUGGINGFACE_NAME,
    MANIFEST_NAME,
    ONNX_NAME,
    REPORT_NAME,
    WEIGHTS_NAME,
    BundleFile,
    BundleManifest,
)
from coppice_api.run import RunReport
from coppice_pruner.bundle.load import bundle_digest, load_bundle
from coppice_pruner.deployment import folded, onnx_of, program_of
from coppice_pruner.errors import PrunerError
from coppice_pruner.models import LoadedModel
from coppice_pruner.models.huggingface_export import write_huggingface
from coppice_pruner.storage.durable import sync_directory
from coppice_pruner.storage.weights import own_weights

MAX_DIFFERENCE = 1e-5
"""Greatest difference of outputs between the model in memory and the bundle loaded again, absolute below 1."""
_log = logging.getLogger(__name__)


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
        # Who serves it is another user than who made it, and safetensors writes for its owner alone.
        for path in (aside, *aside.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        sync_directory(aside)
        aside.rename(directory)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return bundle_digest(directory)


def _write(model: LoadedModel, aside: Path, report: RunReport | None, parent_sha256: str | None) -> None:
    module = model.module.eval()
    save_file(own_weights(module), aside / WEIGHTS_NAME)
    # Integers were made of folded weights, and nothing is left to fold then.
    omitted = _write_deployed(folded(module, model.example_inputs()), model, aside)
    if reason := write_huggingface(model, aside / HUGGINGFACE_NAME):
        omitted[HUGGINGFACE_NAME] = reason
    files = {path.relative_to(aside).as_posix(): _entry(path) for path in sorted(aside.rglob("*")) if path.is_file()}
    manifest = BundleManifest(
        task=model.task,
        architecture=model.architecture,
        pruning_plan=model.pruning_plan,
        quantization=model.quantization,
        inputs=model.inputs,
        classes=model.classes,
        files=files,
        omitted=omitted,
        parent_sha256=parent_sha256,
        report=report,
        created_by=f"coppice {metadata.version('coppice')}",
    )
    text = manifest.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    (aside / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def _write_deployed(deployed: nn.Module, model: LoadedModel, aside: Path) -> dict[str, str]:
    """Write the deployed model as programs and return those that could not be, each with the reason."""
    try:
        program = program_of(deployed, model.example_inputs())
    except Exception as error:  # the exporter raises whatever it stumbles over
        if model.quantization is None:
            raise
        _log.warning("the bundle has no %s: this quantized model cannot be exported", EXPORTED_NAME)
        _log.debug("what the exporter said", exc_info=error)
        reason = f"torch {torch.__version__} cannot export this model quantized as {model.quantization.scheme.value}"
        return dict.fromkeys((EXPORTED_NAME, ONNX_NAME), reason)
    # Example inputs would be kept as a pickle inside the archive.
    program.example_inputs = None
    with warnings.catch_warnings():
        # As in `program_of`: warnings of the exporters' own dependencies.
        warnings.simplefilter("ignore")
        torch.export.save(program, aside / EXPORTED_NAME)
    try:
        onnx_of(program).save(aside / ONNX_NAME)
    except Exception as error:  # the exporter raises whatever one of its many passes stumbles over
        _log.warning("the bundle has no %s: the ONNX exporter cannot express this model", ONNX_NAME)
        _log.debug("what the ONNX exporter said", exc_info=error)
        (aside / ONNX_NAME).unlink(missing_ok=True)
        return {ONNX_NAME: f"torch {torch.__version__} cannot express this model in ONNX with a batch of any size"}
    return {}


def _verify(model: LoadedModel, aside: Path, trusted_packages: tuple[str, ...]) -> None:
    again = load_bundle(aside, trusted_packages=trusted_packages)
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(
        torch.randn(item.shape, generator=generator) if item.is_floating_point() else item
        for item in model.example_inputs(4)
    )
    with torch.inference_mode():
        want = model.module(*inputs)
        difference = float((again.module(*inputs) - want).abs().max())
    # Written so that NaN fails too.
    if not difference <= MAX_DIFFERENCE * max(1.0, float(want.abs().max())):
        raise PrunerError(
            f"the bundle loaded again differs from the model in memory by {difference:.2g} "
            f"(allowed: {MAX_DIFFERENCE:g}); it was not kept"
        )


def _entry(path: Path) -> BundleFile:
    with path.open("rb") as stream:
        return BundleFile(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), size_bytes=path.stat().st_size)
