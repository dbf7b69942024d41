"""The server's settings, read from the environment once.

Every path comes from here: nothing else in the package knows where anything is mounted. `location.py`
turns the model's URI into a directory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from inference_server.errors import RefusedError

T = TypeVar("T")


class MeterChoice(StrEnum):
    """Which energy meter the server uses; the values of a PruneJob's `measurement.meter`."""

    AUTO = "Auto"
    NVML = "NVML"
    ESTIMATE = "Estimate"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one server does. The environment variable is the field's name in upper case."""

    model_uri: str
    """Bundle to serve: file://, pvc://claim/path or s3://; #sha256=<digest of manifest.json> has it verified."""
    claim_mounts: Mapping[str, Path] = field(default_factory=dict)
    """Where each claim of a pvc:// URI is mounted. JSON: {"claim": "/mount/path"}."""
    model_name: str = "model"
    """Name in /v2/models/<name>."""
    pod_ip: str = "0.0.0.0"
    """Address to bind to."""
    port: int = 8080
    """Port to bind to; 0 takes a free one."""
    drain_seconds: float = 5.0
    """How long to go on serving after SIGTERM, so that endpoints and clients catch up."""
    torch_threads: int = 1
    """Threads of one inference. 1 keeps small models from fighting over a shared core."""
    meter: MeterChoice = MeterChoice.AUTO
    """Auto takes the counter of the GPU that serves, else the estimate."""
    probe_seconds: float = 15.0
    """Time between two evaluations of the probe set; 0 evaluates once, after start."""
    probe_dataset: str = "builtin://digits"
    """Labelled data the accuracy is measured on, its held-out split; empty turns the probe off."""
    probe_batch: int = 32
    """Samples in one inference of the probe. A PruneJob's default measurement.batchSize is the same."""
    max_body_bytes: int = 16 * 1024 * 1024
    """Largest request body; more is answered with 413."""
    max_waiting: int = 256
    """Inferences that may wait for the worker; more are answered with 503."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one."""
    termination_log: Path = Path("/dev/termination-log")
    """Where the reason of a refusal goes, for the pod's status. Read by `__main__` alone."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check the settings.

        Args:
            environ: The environment, `os.environ` outside tests.

        Raises:
            RefusedError: If a variable is missing or cannot be understood; the message names it.
        """
        read = _Reader(environ)
        settings = cls(
            model_uri=read("MODEL_URI", str, ""),
            claim_mounts=read("CLAIM_MOUNTS", _claim_mounts, {}),
            model_name=read("MODEL_NAME", str, cls.model_name),
            pod_ip=read("POD_IP", str, cls.pod_ip),
            port=read("PORT", _between(0, 65535, int), cls.port),
            drain_seconds=read("DRAIN_SECONDS", _between(0, 3600, float), cls.drain_seconds),
            torch_threads=read("TORCH_THREADS", _between(1, 1024, int), cls.torch_threads),
            meter=read("METER", _meter, cls.meter),
            probe_seconds=read("PROBE_SECONDS", _between(0, 86400, float), cls.probe_seconds),
            probe_dataset=read("PROBE_DATASET", str, cls.probe_dataset, keep_empty=True),
            probe_batch=read("PROBE_BATCH", _between(1, 65536, int), cls.probe_batch),
            max_body_bytes=read("MAX_BODY_BYTES", _between(1, 2**31, int), cls.max_body_bytes),
            max_waiting=read("MAX_WAITING", _between(1, 65536, int), cls.max_waiting),
            device=read("DEVICE", str, cls.device),
            termination_log=read("TERMINATION_LOG", Path, cls.termination_log),
        )
        if not settings.model_uri:
            raise RefusedError(
                "MODEL_URI is not set: give the bundle to serve, for example pvc://fleet-models/digits/dense"
            )
        return settings


class _Reader:
    """Reads one variable at a time and names it when it is wrong."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __call__(self, name: str, parse: Callable[[str], T], default: T, *, keep_empty: bool = False) -> T:
        text = self._environ.get(name)
        # Kubernetes gives an unset downward field as an empty string: that is "not given" here.
        if text is None or (not text and not keep_empty):
            return default
        try:
            return parse(text)
        except ValueError as error:
            raise RefusedError(f"{name} is {text!r}: {error}") from error


def _between(least: float, most: float, kind: Callable[[str], T]) -> Callable[[str], T]:
    def parse(text: str) -> T:
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(f"a number from {least:g} to {most:g} is expected") from None
        # NaN compares false with everything, so it is refused here too.
        if not least <= value <= most:  # type: ignore[operator]
            raise ValueError(f"a number from {least:g} to {most:g} is expected")
        return value

    return parse


def _meter(text: str) -> MeterChoice:
    try:
        return MeterChoice(text)
    except ValueError:
        raise ValueError(f"one of {', '.join(MeterChoice)} is expected") from None


def _claim_mounts(text: str) -> Mapping[str, Path]:
    expected = 'a JSON object of claim to mount path is expected, for example {"fleet-models": "/models"}'
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error}); {expected}") from None
    if not isinstance(value, dict) or not all(isinstance(path, str) and path for path in value.values()):
        raise ValueError(expected)
    return {claim: Path(path) for claim, path in value.items()}
