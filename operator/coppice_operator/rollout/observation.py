"""Everything one pass over a ModelRollout may look at."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coppice_api.modelrollout import TargetKind
from coppice_operator.clusters.view import ClusterView
from coppice_operator.delivery.change import Outcome
from coppice_operator.plan import JsonObject
from coppice_operator.rollout.question import Answer, QueryKey


@dataclass(frozen=True)
class RolloutObservation:
    """A rollout and its surroundings, raw as the API server gives them."""

    rollout: JsonObject
    """The ModelRollout."""
    siblings: tuple[JsonObject, ...] = ()
    """All other ModelRollouts of its namespace."""
    workloads: tuple[JsonObject, ...] = ()
    """Everything of its namespace that may be a target or be made for one, `kind` filled in."""
    missing_kinds: Mapping[TargetKind, str] | None = None
    """Kinds that the rollout names and the own cluster has not, and why; None where every kind is watched."""
    clusters: Mapping[str, ClusterView] = field(default_factory=dict)
    """Other clusters by the names of their Secrets: of those that it needs now."""
    prunejobs: Collection[JsonObject] = ()
    """All PruneJobs of its namespace: what they say they left where."""
    answers: Mapping[QueryKey, Answer] = field(default_factory=dict)
    """Answers to what `analysis.due_queries` asked in this pass."""
    clock_set_at: datetime | None = None
    """When somebody set the clock: what was written before says little of how long ago it was."""
    published: Outcome | None = None
    """With delivery Git: what came of the last change of the repository."""
