"""Devices as data: what a data sheet, a paper or a fit says of each, and which of these it was.

A profile is a TOML or JSON file. Every number names its source; what no source gives is derived from numbers that have
one, or assumed, and says so.
"""

from __future__ import annotations

import json
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.estimator.operators import Kind

SCHEMA = "coppice.dev/device-profile/v1"
_DIRECTORY = Path(__file__).parent / "devices"
DEVICES = tuple(sorted(path.stem for path in _DIRECTORY.iterdir() if path.suffix in (".toml", ".json")))
"""Names of the profiles that come with Coppice."""
_MOST_BYTES = 1 << 20
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Basis(StrEnum):
    """Where a number comes from."""

    DATASHEET = "datasheet"
    LITERATURE = "literature"
    DERIVED = "derived"
    """Computed from numbers of this profile; the source says how."""
    FITTED = "fitted"
    """To samples measured on the device."""
    ASSUMED = "assumed"
    """Nobody said so; the source says why it is plausible."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Model):
    """A number with its source."""

    value: _NotNegative
    basis: Basis
    source: Annotated[str, Field(min_length=1, max_length=300)]
    """Title and date of the document, or how it was found."""


class KindCosts(_Model):
    """Fitted seconds of one kind of operator: the terms add up."""

    operator_seconds: _NotNegative = 0.0
    """Each, whatever it does."""
    flop_seconds: _NotNegative = 0.0
    """For an operation, channels filled up to whole vectors."""
    byte_seconds: _NotNegative = 0.0
    """For a byte of activations read or written."""
    weight_byte_seconds: _NotNegative = 0.0
    """For a byte of weights."""
    spilled_byte_seconds: _NotNegative = 0.0
    """For a byte beyond the cache, besides."""


class DeviceProfile(_Model):
    """What is known of a device."""

    schema_version: str = SCHEMA
    name: str
    notes: str = ""
    peak_flops_per_second: dict[str, Figure] = {}
    """For each precision; matrix units where PyTorch uses them by default."""
    bandwidth_bytes_per_second: Figure | None = None
    efficiency_ratio: Figure | None = None
    """Share of both peaks that kernels reach."""
    operator_seconds: Figure | None = None
    """Launching one operator, while the device waits."""
    launch_seconds: Figure | None = None
    """Of the host, for one operator. The device works on what is queued meanwhile, so this shows only where a model's
    operators are shorter."""
    idle_watts: Figure
    """Drawn while nothing is computed."""
    flop_joules: Figure | None = None
    byte_joules: Figure | None = None
    kind_flop_joules: dict[Kind, Figure] = {}
    """In float32, for kinds that other units compute than `flop_joules` says."""
    busy_watts: Figure | None = None
    """Drawn while computing, where energy is told from time alone; it replaces the three above."""
    cache_bytes: Figure | None = None
    """What an operator touches beyond this goes to memory."""
    fitted: dict[Kind, KindCosts] = {}
    """In float32. For kinds left out, and other precisions, the roofline of the peaks."""
    company_ratio: _NotNegative = 1.0
    """Fitted: what operators take in a whole model, over what they take by themselves."""
    fit: dict[str, Any] = {}
    """How `fitted` came about: samples, machine, date, error by cross-validation."""


def load_device(name: str) -> DeviceProfile:
    """Return the profile of a device by its name.

    Raises:
        InputRefusedError: If there is none.
    """
    path = next((path for path in _DIRECTORY.iterdir() if path.stem == name.lower()), None)
    if path is None:
        raise InputRefusedError(f"device {name!r}: unknown; there are {', '.join(DEVICES)}, or give --device-file")
    return load_device_file(path)


def load_device_file(path: Path) -> DeviceProfile:
    """Return the profile in a TOML or JSON file.

    Raises:
        InputRefusedError: If it cannot be read or is not one.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputRefusedError(f"device profile {path}: has more than {_MOST_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        profile = DeviceProfile.model_validate(tomllib.loads(text) if path.suffix == ".toml" else json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputRefusedError(f"device profile {path}: {where}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise InputRefusedError(f"device profile {path}: {error}") from error
    if profile.schema_version != SCHEMA:
        raise InputRefusedError(
            f"device profile {path}: schema {profile.schema_version!r}; this version reads {SCHEMA}"
        )
    return profile
