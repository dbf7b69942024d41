"""Builds a dense module from what a manifest says, without ever running code that came with the manifest.

A manifest is data from elsewhere. Were it free to name any factory, it would be a pickle by another name, so
it may name Coppice's own architectures; `python://` factories need the caller's word for their package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from torch import nn

from coppice_api.bundle import ArchitectureSource
from coppice_pruner.errors import InputRefusedError
from coppice_pruner.models import huggingface, zoo
from coppice_pruner.models.torchvision import build_torchvision

_ZOO: dict[str, Callable[..., nn.Module]] = {"vgg": zoo.vgg, "resnet": zoo.resnet, "vit": zoo.vit}


class ArchitectureRefusedError(InputRefusedError):
    """The architecture is unknown, not trusted, or does not take the arguments given."""


def build(source: ArchitectureSource, *, trusted_packages: Sequence[str] = ()) -> nn.Module:
    """Return the dense module, randomly initialised, in eval mode.

    Args:
        source: `coppice://vgg`, `coppice://resnet`, `transformers://image-classification`, or `python://package.module:factory`.
        trusted_packages: Packages whose factories may be called.

    Raises:
        ArchitectureRefusedError: Naming the source and what would be right.
    """
    factory = _factory(source.source, trusted_packages)
    try:
        module = factory(**source.arguments)
    except (TypeError, ValueError) as error:
        raise ArchitectureRefusedError(f"architecture {source.source}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ArchitectureRefusedError(f"architecture {source.source} gave a {type(module).__name__}, not a module")
    return module.eval()


def _factory(source: str, trusted_packages: Sequence[str]) -> Callable[..., nn.Module]:
    scheme, _, rest = source.partition("://")
    if scheme == "coppice":
        if rest not in _ZOO:
            known = ", ".join(f"coppice://{name}" for name in _ZOO)
            raise ArchitectureRefusedError(f"architecture {source}: unknown; there are {known}")
        return _ZOO[rest]
    if scheme == "transformers":
        return huggingface.factory(rest)
    if scheme == "torchvision":
        return build_torchvision
    if scheme != "python":
        raise ArchitectureRefusedError(f"architecture {source}: use coppice:// or python://package.module:factory")
    module_name, _, name = rest.partition(":")
    package = module_name.split(".")[0]
    if package not in trusted_packages:
        raise ArchitectureRefusedError(
            f"architecture {source}: the package {package!r} is not trusted to build models; name it explicitly "
            "if the code installed under that name is yours"
        )
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ArchitectureRefusedError(
            f"architecture {source}: {error}; install the package in the run image"
        ) from error
    if not callable(factory):
        raise ArchitectureRefusedError(f"architecture {source}: {name} is not callable")
    return factory  # type: ignore[no-any-return]
