"""What has happened in a run so far: written by the loop, read by the pod's endpoints and the terminal."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from coppice_api.base import Provenance
from coppice_api.run import ModelFigures, Phase, Progress, RunReport
from coppice_pruner.run.interruption import Interruption

_MIN_RATIO_FOR_ETA = 0.1


@dataclass(frozen=True)
class Iteration:
    """One pruning step."""

    number: int
    accepted: bool
    step: float
    """Share of the energy (Knapsack, PerJoule) or of the channels there were before it that the step was to remove;
    0 where the model of an earlier step was fine-tuned further."""
    widths: dict[str, int]
    """Channels of every group after the step."""
    accuracy_ratio: float | None
    energy_reduction_ratio: float | None
    """Measured against the dense model; None where the step was taken back before measuring."""
    predicted_reduction_ratio: float
    """What the cost model said before."""
    reason: str = ""
    """Why it was taken back; how it breaks the quality budget where it was kept for now."""
    spent: tuple[float, ...] = ()
    """Share of the quality budget that the model took after each fine-tuning; infinite after one that diverged."""

    @property
    def fine_tunings(self) -> int:
        """Those of this step."""
        return len(self.spent)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Iteration:
        """Return the iteration that `to_dict` was called on."""
        return cls(**{**state, "spent": tuple(state["spent"])})


class Journal:
    """The state of a run as others may see it. Safe to read from other threads.

    Args:
        max_iterations: Steps at most.
        listener: Called after every change, in the run's own thread.
        interruption: Asked at every change; None is never asked to stop.
    """

    def __init__(
        self,
        max_iterations: int,
        listener: Callable[[Journal], None] = lambda _journal: None,
        interruption: Interruption | None = None,
    ) -> None:
        self.interruption = interruption or Interruption()
        self._lock = threading.Lock()
        self._listener = listener
        self._started = time.monotonic()
        self._phase_started = self._started
        self.progress = Progress(max_iterations=max_iterations)
        self.phase_seconds: dict[str, float] = {}
        self.iterations: tuple[Iteration, ...] = ()
        self.dense: ModelFigures | None = None
        self.pruned: ModelFigures | None = None
        self.layer_energies: dict[str, float] = {}
        """Joules per inference of the dense model's layers."""
        self.provenance: Provenance | None = None
        self.report: RunReport | None = None
        self._energy_joules: Callable[[], float] = lambda: 0.0

    @property
    def run_energy_joules(self) -> float:
        """What the run has used so far, pods before this one included."""
        return self._energy_joules()

    def count_energy(self, energy_joules: Callable[[], float]) -> None:
        """Have the run's own energy counted by a function that may be called from any thread."""
        self._energy_joules = energy_joules

    def enter(self, phase: Phase, message: str, ratio: float | None = None) -> None:
        """Note that the run goes on to a phase.

        Args:
            phase: The phase.
            message: What it is doing, for a person.
            ratio: Progress of the run, 0..1; it never goes back.
        """
        now = time.monotonic()
        left = self.progress.phase.value
        self.phase_seconds[left] = self.phase_seconds.get(left, 0.0) + now - self._phase_started
        self._phase_started = now
        self.update(phase=phase, message=message, ratio=ratio)

    def update(self, *, ratio: float | None = None, **changes: Any) -> None:
        """Change fields of the progress.

        Raises:
            Interrupted: If the run was told to stop.
        """
        self.interruption.check()
        reached = max(self.progress.progress_ratio, min(1.0, ratio or 0.0))
        with self._lock:
            self.progress = self.progress.model_copy(
                update={**changes, "progress_ratio": reached, "estimated_completion_time": self._completion(reached)}
            )
        self._listener(self)

    def add(self, iteration: Iteration) -> None:
        """Note a finished step."""
        self.iterations = (*self.iterations, iteration)
        changes: dict[str, Any] = {
            "iteration": iteration.number,
            "rollbacks": sum(not item.accepted for item in self.iterations),
        }
        if iteration.accepted:
            changes |= {
                "accuracy_ratio": iteration.accuracy_ratio,
                "energy_reduction_ratio": iteration.energy_reduction_ratio,
            }
        self.update(**changes)

    def _completion(self, ratio: float) -> str | None:
        if ratio < _MIN_RATIO_FOR_ETA or ratio >= 1.0:
            return None
        elapsed = time.monotonic() - self._started
        left = timedelta(seconds=elapsed / ratio * (1.0 - ratio))
        return (datetime.now(UTC) + left).strftime("%Y-%m-%dT%H:%M:%SZ")
