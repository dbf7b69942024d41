"""python://package.module:factory: the user's own models and data, from packages installed where the run is."""

from __future__ import annotations

import importlib

from coppice_pruner.errors import InputRefusedError


def call_factory(reference: str, *, field: str) -> object:
    """Return what a factory without arguments gives.

    Args:
        reference: package.module:factory.
        field: Of the spec, for messages.

    Raises:
        InputRefusedError: If it cannot be imported or called.
    """
    module_name, _, name = reference.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise InputRefusedError(
            f"{field} python://{reference}: {error}; install the package in the run image"
        ) from error
    try:
        return factory()
    except TypeError as error:
        raise InputRefusedError(f"{field} python://{reference}: {error}; it is called without arguments") from error
