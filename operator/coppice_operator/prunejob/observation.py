"""Everything one pass over a PruneJob may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coppice_api.prunejob import HardwareClass
from coppice_api.run import Progress
from coppice_operator.plan import JsonObject
from coppice_operator.prunejob.presets import Presets, placed


@dataclass(frozen=True)
class Refusal:
    """A child that the API server does not take."""

    message: str
    """Why, for people."""
    wait_seconds: float = 0.0
    """How long until it is asked again."""


@dataclass(frozen=True)
class PruneJobObservation:
    """A PruneJob and its children, raw as the API server gives them."""

    prunejob: JsonObject
    jobs: Mapping[str, JsonObject] = field(default_factory=dict)
    """Jobs of its namespace that carry its label, by name."""
    pods: tuple[JsonObject, ...] = ()
    """Pods that carry its label."""
    progress: Mapping[str, Progress] = field(default_factory=dict)
    """What the running pods last said, by hardware class."""
    silent_since: Mapping[str, datetime] = field(default_factory=dict)
    """When running pods that answer no more last did, by hardware class."""
    rollouts: Mapping[str, JsonObject] = field(default_factory=dict)
    """ModelRollouts of its namespace, by name."""
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    """Children that the API server did not take when it was last asked, by name."""
    clock_set_at: datetime | None = None
    """When somebody set the clock: what was written before says little of how long ago it was."""
    default_image: str = ""
    """Image of the run where the spec names none."""
    presets: Presets = field(default_factory=dict)
    """Where runs go whose class says nothing of it."""

    def placed(self, hardware: HardwareClass) -> HardwareClass:
        """Return a class of the PruneJob with what its preset adds."""
        return placed(hardware, self.presets)
