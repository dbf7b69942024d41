"""What the run itself has used: this process, pods before this one, and the other processes of a run on several."""

from __future__ import annotations

from coppice_pruner.meters import Meter
from coppice_pruner.training import Processes


class RunEnergy:
    """Counts from its making on.

    Args:
        meter: Of this process's device.
        processes: Of the run; each counts its own device.
        spent_joules: What pods before had used.
    """

    def __init__(self, meter: Meter, processes: Processes, spent_joules: float) -> None:
        self._meter, self._processes, self._spent_joules = meter, processes, spent_joules
        self._begin_joules = meter.read_joules()
        processes.tell(self.own_joules)

    def own_joules(self) -> float:
        """Return what this process has used; from any thread."""
        return self._meter.read_joules() - self._begin_joules

    def so_far_joules(self) -> float:
        """Return what the run has used, the other processes as of their last beats; from any thread."""
        return self._spent_joules + self.own_joules() + self._processes.others_joules

    def total_joules(self) -> float:
        """Return what the run has used; every process has to ask at the same point."""
        return self._spent_joules + self._processes.mean(self.own_joules()) * self._processes.count
