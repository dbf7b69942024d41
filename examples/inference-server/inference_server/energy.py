"""What one inference costs, in joules, and how sure we are.

Two ways, behind one protocol:

- On a CPU: seconds of CPU time of the computation x watts of one busy core (`coppice_pruner.meters` has the
  documented table). Provenance `Estimated`.
- On a GPU: the hardware's energy counter ticks only every 20 to 100 ms, far longer than one inference, and
  between two requests it counts idling. So the probe keeps the GPU busy for a window of many ticks, reads the
  counter before and after, and that gives the watts of *this* model at work; each batch is charged its own
  synchronised seconds x those watts. Provenance `Measured`.

Both charge the computation and nothing else: not JSON, not waiting, not an idle device. That is what makes
a pod with little traffic comparable to a busy one, and the dense model to the pruned one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from inference_server.errors import RefusedError

T = TypeVar("T")

GPU_WINDOW_SECONDS = 2.0
"""Length of a busy window on a GPU: 20 ticks of the slowest counter, so at most 5 % is quantization."""


class EnergyAccount(Protocol):
    """Charges computations."""

    provenance: str
    """Provenance of every joule it charges."""

    def charge(self, compute: Callable[[], T]) -> tuple[T, float]:
        """Run a computation on this thread; return its result and its joules."""
        ...

    def calibrate(self, compute: Callable[[], object]) -> None:
        """Find out what the device draws while it runs this computation again and again."""
        ...


class CpuEnergy:
    """CPU time x watts.

    Args:
        watts_per_core: What one busy core draws.
        clock: CPU seconds used so far by the computation. `time.thread_time` covers a single-threaded
            inference exactly; with more torch threads only `time.process_time` sees the helpers, and the HTTP
            side with them.
    """

    provenance = "Estimated"

    def __init__(self, watts_per_core: float, *, clock: Callable[[], float] = time.thread_time) -> None:
        self._watts_per_core = watts_per_core
        self._clock = clock

    def charge(self, compute: Callable[[], T]) -> tuple[T, float]:
        """Run a computation on this thread; return its result and its joules."""
        begin_seconds = self._clock()
        result = compute()
        return result, (self._clock() - begin_seconds) * self._watts_per_core

    def calibrate(self, compute: Callable[[], object]) -> None:
        """Nothing to find out: the watts come from a table."""


class GpuEnergy:
    """Seconds of the device x watts measured with its energy counter.

    Args:
        read_joules: The device's energy counter.
        synchronize: Waits until the device has finished what was queued.
        clock: Monotonic seconds.
        window_seconds: Length of a calibration window.
    """

    provenance = "Measured"

    def __init__(
        self,
        read_joules: Callable[[], float],
        synchronize: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        window_seconds: float = GPU_WINDOW_SECONDS,
    ) -> None:
        self._read_joules = read_joules
        self._synchronize = synchronize
        self._clock = clock
        self._window_seconds = window_seconds
        self._watts: float | None = None

    def charge(self, compute: Callable[[], T]) -> tuple[T, float]:
        """Run a computation; return its result and its joules."""
        if self._watts is None:
            raise RuntimeError("GpuEnergy.charge was called before GpuEnergy.calibrate")
        self._synchronize()
        begin_seconds = self._clock()
        result = compute()
        self._synchronize()
        return result, (self._clock() - begin_seconds) * self._watts

    def calibrate(self, compute: Callable[[], object]) -> None:
        """Keep the device busy between two ticks of its counter that are a window apart."""
        self._synchronize()
        begin_joules, begin_seconds = self._next_tick(compute)
        while self._clock() - begin_seconds < self._window_seconds:
            compute()
            self._synchronize()
        end_joules, end_seconds = self._next_tick(compute)
        self._watts = (end_joules - begin_joules) / (end_seconds - begin_seconds)

    def _next_tick(self, compute: Callable[[], object]) -> tuple[float, float]:
        """Run until the counter moves; a window that begins and ends on a tick has no quantization error."""
        first_joules, deadline_seconds = self._read_joules(), self._clock() + self._window_seconds
        while (joules := self._read_joules()) == first_joules:
            if self._clock() > deadline_seconds:
                raise RefusedError(
                    f"the GPU's energy counter stood still for {self._window_seconds:g} s of work: "
                    "set METER=Estimate and DEVICE=cpu, or serve on a GPU that counts its energy"
                )
            compute()
            self._synchronize()
        return joules, self._clock()
