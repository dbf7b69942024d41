"""The watch log of the fleet, and what it says about order and limits: read from Deployments, not from our status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class WatchLog:
    """Every change of a template, and how many targets were between two models at each moment."""

    changes: list[tuple[str, str]] = field(default_factory=list)
    """(target, template), in the order of the watch."""
    most_in_transition: int = 0
    early: list[str] = field(default_factory=list)
    """Targets that were touched while one of an earlier wave was still between two models."""
    wave_of: dict[str, int] = field(default_factory=dict)
    forward: bool = True
    """Whether waves go up; on the way back they go down and nobody waits for anybody's."""
    _templates: dict[str, str] = field(default_factory=dict)
    _moving: set[str] = field(default_factory=set)

    def heard(self, _client: object, kind: str, deployment: Json) -> None:
        """Take in one event."""
        name, template = deployment["metadata"]["name"], json.dumps(deployment["spec"]["template"])
        before = self._templates.get(name)
        self._templates[name] = template
        if kind == "ADDED" or before is None:
            return
        if template != before:
            self.changes.append((name, template))
            wave = self.wave_of.get(name, 0)
            if self.forward and any(self.wave_of.get(other, 0) < wave for other in self._moving - {name}):
                self.early.append(name)
            self._moving.add(name)
            self.most_in_transition = max(self.most_in_transition, len(self._moving))
        elif arrived(deployment):
            self._moving.discard(name)

    def begin(self, *, forward: bool) -> None:
        """Forget what was before."""
        self.changes, self.early, self.most_in_transition, self.forward = [], [], 0, forward

    def writes(self) -> dict[str, int]:
        """Return how often each target's template was changed."""
        counted: dict[str, int] = {}
        for name, _ in self.changes:
            counted[name] = counted.get(name, 0) + 1
        return counted

    def moving(self) -> int:
        """Return how many targets are between two models now."""
        return len(self._moving)

    def faults(self, names: Sequence[str]) -> list[str]:
        """Return what must not have been on the way forward: targets touched twice, missed, or before their turn."""
        counted = self.writes()
        order = [self.wave_of[name] for name, _ in self.changes if name in self.wave_of]
        return [
            *(f"{name} was changed {counted.get(name, 0)} times" for name in names if counted.get(name, 0) != 1),
            *(f"{name} was touched before the wave before it had arrived" for name in self.early),
            *(["waves were not in order"] if order != sorted(order) else []),
        ]


def arrived(deployment: Json) -> bool:
    """Return whether a Deployment of one replica has it, updated and available, and no other."""
    status, generation = deployment.get("status") or {}, deployment["metadata"]["generation"]
    counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    return status.get("observedGeneration", 0) >= generation and counts == {1}
