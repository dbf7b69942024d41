"""A DaemonSet: a pod on each node that it chooses, replaced node after node.

With updateStrategy OnDelete it replaces none by itself, so such a one is not touched. It has neither conditions nor a
deadline of its own.
"""

from __future__ import annotations

from coppice_operator.rollout.kinds.pod_template import PodTemplateWorkload
from coppice_operator.rollout.kinds.workload import too_few


class DaemonSet(PodTemplateWorkload):
    """apps/v1 DaemonSet."""

    def unhealthy(self) -> str | None:
        """It must replace its pods by itself, and every one must be available and of the present template."""
        if fault := self.waits_for_deletions() or self.unseen():
            return fault
        if not self.complete(None):
            away = self._wanted() - self.available_pods()
            what = f"is not available on {away}" if away > 0 else "is being replaced on some"
            return f"{self.key} {what} of {self._wanted()} nodes"
        return None

    def complete(self, value: str | None) -> bool:
        """As `kubectl rollout status` judges: on every node the pod is of the present template and available."""
        wanted = self._wanted()
        updated = self.status.get("updatedNumberScheduled", 0)
        return bool(self.observed() and updated >= wanted and self.available_pods() >= wanted)

    def available_pods(self) -> int:
        """Return status.numberAvailable."""
        return int(self.status.get("numberAvailable", 0))

    def down(self) -> bool:
        """Return whether it is not available on more than a quarter of its nodes."""
        return too_few(self.available_pods(), self._wanted())

    @staticmethod
    def pods(names: str) -> str:
        """Return <name>-<five characters>."""
        return f"{names}-[a-z0-9]+"

    def _wanted(self) -> int:
        return int(self.status.get("desiredNumberScheduled", 0))
