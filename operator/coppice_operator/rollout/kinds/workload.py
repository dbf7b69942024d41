"""What every kind of target can be asked, and told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from coppice_api.modelrollout import RolloutModel, Target, TargetKey, TargetKind
from coppice_operator.conditions import instant
from coppice_operator.plan import ApplyObject, JsonObject, JsonPatchObject

MAX_VALUE_LENGTH = 2304
"""A longer value does not fit in status.targets[].previousValue, so it could not be put back."""
_TOLERATED = 4
"""One in so many pods may be away for long, as with a Deployment's default maxUnavailable."""


class FieldUnreadableError(Exception):
    """The field that carries the model cannot be used; the message is a sentence for the user."""


@dataclass(frozen=True)
class Where:
    """Which one field of a target carries the model reference."""

    container: str | None = None
    env: str | None = None
    """Neither: the kind has one place for it."""

    def __str__(self) -> str:
        return self.env or "storageUri"


class Workload(ABC):
    """One target as the cluster shows it.

    Args:
        key: Which it is.
        body: As the API server gives it.
        parts: Objects that a controller made for it and by which its pods are judged.
    """

    api_version: ClassVar[str] = "apps/v1"
    made_of: ClassVar[tuple[TargetKind, ...]] = ()
    """Kinds that a controller makes for it and by which its pods are judged."""

    def __init__(self, key: TargetKey, body: JsonObject, parts: tuple[JsonObject, ...] = ()) -> None:
        self.key, self.body, self.parts = key, body, parts

    # The field that carries the model.

    @abstractmethod
    def where(self, target: Target) -> Where:
        """Return which field an entry of spec.targets means.

        Raises:
            FieldUnreadableError: If that is in doubt.
        """

    @abstractmethod
    def held(self, where: Where) -> str | None:
        """Return what the field holds, None where it is not set.

        Raises:
            FieldUnreadableError: If it cannot be read, or not be put back.
        """

    @staticmethod
    @abstractmethod
    def reference(model: RolloutModel) -> str:
        """Return what the field holds with a model."""

    @abstractmethod
    def giving(self, where: Where, value: str) -> ApplyObject | JsonPatchObject:
        """Return the write that gives the field a value, and changes nothing else."""

    @abstractmethod
    def removing(self, where: Where, value: str) -> JsonPatchObject:
        """Return the write that removes the field while it holds a value of ours."""

    # Its pods.

    @abstractmethod
    def unhealthy(self) -> str | None:
        """Return why it is not fit to be touched, as a sentence, or None."""

    @abstractmethod
    def complete(self, value: str | None) -> bool:
        """Return whether every pod is of the present template, which holds the value, and available."""

    @abstractmethod
    def available_pods(self) -> int:
        """Return how many pods are available."""

    @abstractmethod
    def down(self) -> bool:
        """Return whether too few pods are available."""

    def down_since(self) -> datetime | None:
        """Return since when too few are, for kinds that say so."""
        return None

    def failed(self) -> bool:
        """Return whether its own controller has given the present template up."""
        return False

    def arrived_at(self) -> datetime | None:
        """Return since when it is complete, for kinds that say so."""
        return None

    def hint(self) -> str | None:
        """Return what else its owner should know when it does not become available."""
        return None

    @staticmethod
    @abstractmethod
    def pods(names: str) -> str:
        """Return the regular expression of the names of pods, given one of the names of targets."""

    # What several kinds share.

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.body["metadata"]["namespace"])

    @property
    def spec(self) -> JsonObject:
        """Its spec."""
        found: JsonObject = self.body.get("spec") or {}
        return found

    @property
    def status(self) -> JsonObject:
        """Its status."""
        found: JsonObject = self.body.get("status") or {}
        return found

    def observed(self) -> bool:
        """Return whether its controller has seen its last change."""
        generation = self.body["metadata"].get("generation", 0)
        return bool(self.status.get("observedGeneration", 0) >= generation)

    def condition(self, kind: str) -> JsonObject | None:
        """Return a condition of its status, None where there is none."""
        conditions: list[JsonObject] = self.status.get("conditions") or []
        return next((condition for condition in conditions if condition.get("type") == kind), None)

    def since(self, kind: str, status: str) -> datetime | None:
        """Return since when a condition has had a status; None where it has another."""
        found = self.condition(kind)
        return instant(found.get("lastTransitionTime")) if found and found.get("status") == status else None

    def bounded(self, value: str, field: str) -> str:
        """Return a value that can be remembered.

        Raises:
            FieldUnreadableError: If it is too long for that.
        """
        if len(value) > MAX_VALUE_LENGTH:
            raise FieldUnreadableError(
                f"{self.key} has a {field} of more than {MAX_VALUE_LENGTH} characters: shorten it"
            )
        return value


def too_few(available: int, wanted: int) -> bool:
    """Return whether more pods are away than a kind that says nothing of it may miss."""
    return available < wanted - wanted // _TOLERATED
