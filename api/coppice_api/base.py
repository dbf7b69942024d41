"""What every API type shares: the pydantic base, bounded scalar types and the small enums.

Kubernetes API conventions decide the shape: camelCase in YAML and snake_case here, no floats in a
spec (fractions are decimal strings with a pattern), every string, list and map bounded so that the
API server can price the CEL rules. `crd.py` turns these models into the CustomResourceDefinitions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """A strict, immutable API object: unknown fields are refused, aliases are camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def to_dict(self, include: set[str] | None = None) -> dict[str, Any]:
        """Return the object, or some of its fields, as the API server would store it: camelCase, absent where None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, include=include)


class StatusModel(ApiModel):
    """A status object: fields of a newer version are kept out of our way rather than refused."""

    model_config = ConfigDict(extra="ignore")


def cel(rule: str, message: str, **extra: str) -> dict[str, str]:
    """Return one `x-kubernetes-validations` entry."""
    return {"rule": rule, "message": message, **extra}


def validations(*rules: dict[str, str], **extra: Any) -> dict[str, Any]:
    """Return the JSON schema extra that carries CEL rules."""
    return {"x-kubernetes-validations": list(rules), **extra}


def immutable(field: str) -> dict[str, Any]:
    """Return the CEL rule for a field that defines a run and so may not change once it exists."""
    return validations(
        cel(
            "self == oldSelf",
            f"{field} is immutable: it defines the run. Create a new object under another name, or delete this one.",
        )
    )


class Provenance(StrEnum):
    """Where an energy figure came from. A ratio never mixes two."""

    MEASURED = "Measured"
    """Read from an energy counter of the hardware (NVML, RAPL)."""
    ESTIMATED = "Estimated"
    """Computed from CPU time or a model of the device."""
    SIMULATED = "Simulated"
    """Replayed in a test; nothing ships on it."""


# A DNS label: what Kubernetes allows in names that become label values and host names.
DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
"""Regular expression, without its ends: labels divided by single dots."""
NAME_PART = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
QUALIFIED_NAME = rf"({DNS_SUBDOMAIN}/)?{NAME_PART}"
"""Regular expression, without its ends: a key of a label, a taint or a resource."""
DnsSubdomain = Annotated[str, Field(pattern=rf"^{DNS_SUBDOMAIN}$", min_length=1, max_length=253)]
Sha256 = Annotated[str, Field(pattern=r"^[a-f0-9]{64}$", min_length=64, max_length=64)]
# Decimal strings: Kubernetes forbids floats in a spec because they do not survive every round trip.
UnsignedDecimal = Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", max_length=19)]
SignedDecimal = Annotated[str, Field(pattern=r"^-?[0-9]{1,12}(\.[0-9]{1,9})?$", max_length=23)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", min_length=1, max_length=128)]
ShortString = Annotated[str, Field(max_length=253)]
Message = Annotated[str, Field(max_length=1024)]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
QualifiedName = Annotated[str, Field(pattern=rf"^{QUALIFIED_NAME}$", max_length=317)]
# A schema says nothing of a map's keys; where the API server would refuse a child for one, a CEL rule does.
MapKey = Annotated[str, Field(max_length=317)]
LabelMap = Annotated[dict[MapKey, LabelValue], Field(max_length=32)]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, max_length=40)]


class ConditionStatus(StrEnum):
    """The three values a Kubernetes condition takes."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """metav1.Condition, field for field."""

    type: Annotated[str, Field(max_length=316)]
    status: ConditionStatus
    observed_generation: Annotated[int, Field(ge=0)] = 0
    last_transition_time: Timestamp
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", min_length=1, max_length=1024)]
    message: Annotated[str, Field(max_length=32768)] = ""


UNSEEN_STATUS: dict[str, Any] = {
    "conditions": [
        {
            "type": "Ready",
            "status": "Unknown",
            "reason": "Pending",
            "message": "the operator has not seen it yet",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ]
}
"""What the API server says until the operator does: tools take a resource without conditions for ready."""

Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
