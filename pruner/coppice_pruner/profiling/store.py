"""What layers took at fixed widths, kept on disk, so that a second run on the same machine starts warm.

One JSON file for each device, version of torch and number of threads. It is written aside and renamed, so a reader
never sees half of it; one that is damaged anyway is passed over. A directory that cannot be written is no obstacle:
the run measures, as it would have without.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coppice_pruner.meters.estimate import cpu_name

SCHEMA = "coppice.dev/layer-times/v1"
ENV_CACHE = "COPPICE_CACHE"
MOST_UNITS = 1024
"""Kinds of layers in a file; those not used for longest go first. About 2 KB each."""
_MOST_BYTES = 16 << 20
_MOST_FILES = 32
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_log = logging.getLogger(__name__)


class StoredTimes(BaseModel):
    """Of one kind of layer: what decides its cost besides its widths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    used_at: str
    """RFC 3339, UTC."""
    budget_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Given to the build that measured these: a much larger one refines them."""
    points: tuple[tuple[int, int, _Seconds], ...]
    """Input channels, output channels, seconds of a batch."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: str
    machine: dict[str, str]
    units: dict[str, StoredTimes]


def machine_of(device: torch.device) -> dict[str, str]:
    """Return what decides how long a kernel takes here, besides the kernel."""
    cpu = device.type == "cpu"
    return {
        "device": cpu_name() if cpu else torch.cuda.get_device_name(device),
        "architecture": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}" if cpu else "",
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()) if cpu else "",
    }


def cache_directory(work_directory: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where times are kept: COPPICE_CACHE, or a folder of the work directory."""
    return Path(environ[ENV_CACHE]) if environ.get(ENV_CACHE) else Path(work_directory) / "cache"


def user_cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where a person's own machine keeps caches: COPPICE_CACHE, else XDG_CACHE_HOME, else ~/.cache."""
    if environ.get(ENV_CACHE):
        return Path(environ[ENV_CACHE])
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coppice"


@contextlib.contextmanager
def user_cache(environ: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Have runs of this process keep times where this person's machine keeps caches."""
    given = environ.get(ENV_CACHE)
    environ[ENV_CACHE] = str(user_cache_directory(environ))
    try:
        yield
    finally:
        if given is None:
            del environ[ENV_CACHE]
        else:
            environ[ENV_CACHE] = given


class TimesStore:
    """The times of one machine.

    Args:
        directory: Made when there is something to write; None keeps nothing.
        machine: From `machine_of`.
    """

    def __init__(self, directory: Path | None, machine: Mapping[str, str]) -> None:
        self._machine = dict(machine)
        digest = hashlib.sha256(repr(sorted(machine.items())).encode()).hexdigest()[:16]
        self._path = None if directory is None else directory / f"layer-times-{digest}.json"
        self._units = self._read()

    def get(self, unit: str) -> StoredTimes | None:
        """Return what is known of a kind of layer."""
        return self._units.get(unit)

    def put(self, found: Mapping[str, tuple[float, Mapping[tuple[int, int], float]]]) -> None:
        """Keep what was measured or used: for each kind of layer the budget, and seconds by widths."""
        if self._path is None or not found:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        # Another process may have written since.
        units = self._read()
        for unit, (budget_seconds, seconds) in found.items():
            points = tuple((*widths, value) for widths, value in sorted(seconds.items()))
            units[unit] = StoredTimes(used_at=now, budget_seconds=budget_seconds, points=points)
        newest = sorted(units.items(), key=lambda item: (item[1].used_at, item[0]), reverse=True)[:MOST_UNITS]
        self._units = dict(newest)
        file = _File(schema_version=SCHEMA, machine=self._machine, units=self._units)
        try:
            _write(self._path, file.model_dump_json().encode())
        except OSError as error:
            _log.info("layer times are not kept: %s", error)

    def _read(self) -> dict[str, StoredTimes]:
        if self._path is None:
            return {}
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES} bytes")
            file = _File.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, ValidationError) as error:
            _log.warning("the layer times in %s are passed over: %s", self._path, str(error).splitlines()[0])
            return {}
        # A newer version may mean something else by the same words.
        return file.units if file.schema_version == SCHEMA and file.machine == self._machine else {}


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as aside:
        try:
            aside.write(content)
            aside.flush()
            os.fsync(aside.fileno())
            Path(aside.name).replace(path)
        except BaseException:
            Path(aside.name).unlink(missing_ok=True)
            raise
    others = sorted(path.parent.glob("layer-times-*.json"), key=lambda item: item.stat().st_mtime, reverse=True)
    for old in others[_MOST_FILES:]:
        old.unlink(missing_ok=True)
