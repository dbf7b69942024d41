"""The GPU half: measures, prunes, fine-tunes, evaluates and exports one model.

Belongs here: everything that touches a tensor, a meter or a bundle. Does not belong here: Kubernetes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coppice_pruner.bundle import load_bundle as load_bundle

__all__ = ["load_bundle"]


def __getattr__(name: str) -> Any:
    """Import torch only when somebody loads a model: `coppice --help` must stay quick."""
    if name == "load_bundle":
        from coppice_pruner.bundle import load_bundle

        return load_bundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
