"""The bundle: a directory that holds one model, what it came from and what is claimed of it.

`manifest.json` (this model) names every other file with its digest, so the digest of the manifest is the
digest of the bundle. Nothing in it is a pickle.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from coppice_api.base import Sha256, StatusModel
from coppice_api.prunejob import QuantizationScheme
from coppice_api.run import RunReport

BUNDLE_SCHEMA = "coppice.dev/bundle/v1"
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "model.safetensors"
EXPORTED_NAME = "model.pt2"
ONNX_NAME = "model.onnx"
REPORT_NAME = "report.html"
HUGGINGFACE_NAME = "huggingface"
"""Directory for `from_pretrained`, of models of transformers whose config.json can say what their widths are."""


class BundleFile(StatusModel):
    """One file of a bundle."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class ArchitectureSource(StatusModel):
    """How the dense module is built before its plan is applied: code that is installed, never code that is shipped."""

    source: str
    """For example coppice://vgg, torchvision://resnet18, transformers://, python://package.module:factory."""
    arguments: dict[str, Any] = {}
    """Keyword arguments of the factory, JSON values only."""


class InputSpec(StatusModel):
    """One input tensor, without the batch dimension."""

    name: str = "input"
    shape: Annotated[tuple[Annotated[int, Field(ge=0, le=1 << 24)], ...], Field(max_length=8)]
    dtype: Literal["float32", "float16", "int64"] = "float32"
    high: int | None = None
    """Integers lie below this: the vocabulary's size for tokens. None for a mask, which is all ones."""


class PruningStep(StatusModel):
    """Channels kept in one group of coupled layers, as indices into the group's width in the parent."""

    group: str
    """Name of the module that leads the group."""
    kept: tuple[int, ...]
    width: int
    """Width before the step."""


class Quantized(StatusModel):
    """How the linear layers of a model are quantized. Its weights are those of the folded model."""

    scheme: QuantizationScheme
    reduced_range: bool = False
    """Whether integers have 7 bits, as on a CPU whose products of 8-bit integers may overflow."""


class BundleManifest(StatusModel):
    """manifest.json."""

    schema_version: str = BUNDLE_SCHEMA
    task: str = "image-classification"
    architecture: ArchitectureSource
    pruning_plan: tuple[PruningStep, ...] = ()
    """Against the dense architecture; empty for a dense model."""
    quantization: Quantized | None = None
    """Applied after the plan and after folding norms; absent for floating point."""
    inputs: tuple[InputSpec, ...]
    classes: tuple[str, ...] = ()
    files: dict[str, BundleFile]
    """Of them model.safetensors has the weights as they are trained on, unless they are quantized; model.pt2 and
    model.onnx are the model as it is deployed and was measured, with norms folded into the layers before them."""
    omitted: dict[str, str] = {}
    """Files that a bundle has as a rule and this one has not, each with the reason."""
    parent_sha256: Sha256 | None = None
    """Digest of the model this one was pruned from."""
    report: RunReport | None = None
    """Figures, intervals and provenance, of the run that made it."""
    created_by: str = ""
    """Coppice's version."""
