"""What is known of another cluster at one moment: what a planner may look at."""

from __future__ import annotations

from dataclasses import dataclass

from coppice_operator.plan import JsonObject

Kinds = frozenset[tuple[str, str]]
"""(apiVersion, kind) of what is watched in a cluster."""


@dataclass(frozen=True)
class ClusterView:
    """A cluster, as its connection shows it."""

    workloads: tuple[JsonObject, ...] = ()
    """What it was last seen to have."""
    fault: str | None = None
    """Why nothing can be done there, and what mends it; None where all is well."""
