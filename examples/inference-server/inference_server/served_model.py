"""The model as it is served: loaded, verified, warm, and computed by one thread at a time.

Heavy imports (torch, the pruner) happen inside `load`, on the worker thread: the HTTP side answers liveness
while they take their seconds. `server.py` owns the worker; `app.py` asks it.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from inference_server import bundles, location, meters
from inference_server.energy import EnergyAccount
from inference_server.errors import RefusedError, RequestError
from inference_server.metrics import Metrics
from inference_server.protocol import TensorSpec
from inference_server.settings import Settings

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
LOGGER = logging.getLogger(__name__)
WARM_UP_BATCHES = 3
"""The first batch allocates and chooses kernels, the next ones use them."""


@dataclass(frozen=True)
class ServedModel:
    """One loaded model. Its methods run on the worker thread."""

    sha256: str
    """Digest of the bundle, verified or not."""
    verified: bool
    """Whether MODEL_URI named that digest."""
    uri: str
    input: TensorSpec
    classes: int
    """Width of the output."""
    memory_bytes: int
    """Parameters and buffers."""
    device: torch.device
    module: torch.nn.Module
    energy: EnergyAccount
    metrics: Metrics

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute one batch, shape (N, *input), and count its samples and its joules.

        Returns:
            Logits, shape (N, classes).
        """
        import torch

        with torch.inference_mode():
            samples = torch.from_numpy(batch).to(self.device)
            logits, energy_joules = self.energy.charge(lambda: self.module(samples))
            values: NDArray[np.float32] = logits.float().cpu().numpy()
        self.metrics.inferred(samples=len(batch), energy_joules=energy_joules, provenance=self.energy.provenance)
        return values

    def parameters(self) -> dict[str, Any]:
        """Return what /v2/models/<name> says beyond the protocol's own fields."""
        return {
            "uri": self.uri,
            "sha256": self.sha256,
            "verified": self.verified,
            "memory_bytes": self.memory_bytes,
            "energy_provenance": self.energy.provenance,
        }


def load(settings: Settings, metrics: Metrics) -> ServedModel:
    """Load, verify and warm up the model that MODEL_URI names.

    Raises:
        RefusedError: If it cannot be served; the message says why and what to do.
    """
    # A copy of a remote bundle goes as soon as the model is in memory.
    with tempfile.TemporaryDirectory(prefix="bundle-") as scratch:
        return _load(settings, metrics, Path(scratch))


def _load(settings: Settings, metrics: Metrics, scratch: Path) -> ServedModel:
    where = location.parse_uri(settings.model_uri)
    directory = location.resolve(where, settings.claim_mounts, scratch)
    sha256 = location.verify(where, directory)
    if where.sha256 is None:
        LOGGER.warning(
            "MODEL_URI names no digest: %s (sha256 %s) is served unverified; "
            "append #sha256=<digest> to have it checked",
            where.uri,
            sha256,
        )
    import torch

    torch.set_num_threads(settings.torch_threads)
    device = _device(settings.device)
    loaded = bundles.load(directory, device)
    energy = meters.open_account(settings, device)
    warm = torch.zeros((settings.probe_batch, *loaded.input.shape), device=device)
    with torch.inference_mode():
        for _ in range(WARM_UP_BATCHES):
            logits = loaded.module(warm)
        energy.calibrate(lambda: loaded.module(warm))
    if logits.ndim != 2 or len(logits) != len(warm):
        raise RefusedError(
            f"{where.uri} answers a batch of {len(warm)} with shape {list(logits.shape)}: "
            "this server serves classifiers, whose output is [N, classes]"
        )
    # The warm-up counts nowhere: neither its samples nor its joules, which are those of a first time.
    metrics.model_loaded(memory_bytes=loaded.memory_bytes, provenance=energy.provenance)
    return ServedModel(
        sha256=sha256,
        verified=where.sha256 is not None,
        uri=where.uri,
        input=loaded.input,
        classes=int(logits.shape[1]),
        memory_bytes=loaded.memory_bytes,
        device=device,
        module=loaded.module,
        energy=energy,
        metrics=metrics,
    )


class Worker:
    """One thread that computes; the event loop only waits for it.

    Args:
        max_waiting: Computations that may queue before more are turned away with 503.
    """

    def __init__(self, max_waiting: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._max_waiting = max_waiting
        self._waiting = 0

    async def run(self, compute: Callable[[], T]) -> T:
        """Run something on the worker thread.

        Raises:
            RequestError: 503, if too many are waiting already.
        """
        if self._waiting >= self._max_waiting:
            raise RequestError(503, f"{self._waiting} inferences are waiting already: try again later")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, compute)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Wait for what is running, drop what is not."""
        self._executor.shutdown(cancel_futures=True)


def _device(choice: str) -> torch.device:
    import torch

    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(choice)
    except RuntimeError as error:
        raise RefusedError(f"DEVICE is {choice!r}: cpu, cuda, cuda:<n> or auto is expected") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RefusedError(f"DEVICE is {choice!r}, but there is no GPU here: set DEVICE=cpu or auto")
    return device
