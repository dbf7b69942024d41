"""A StatefulSet: pod after pod, from the highest number down.

It replaces none by itself with updateStrategy OnDelete, and none below rollingUpdate.partition, so such a one is not
touched: part of it would keep the old model for ever. It has neither conditions nor a deadline of its own.
"""

from __future__ import annotations

from coppice_operator.rollout.kinds.pod_template import PodTemplateWorkload
from coppice_operator.rollout.kinds.workload import too_few


class StatefulSet(PodTemplateWorkload):
    """apps/v1 StatefulSet."""

    def unhealthy(self) -> str | None:
        """It must replace all of its pods by itself, and every one must be available and of the present template."""
        if fault := self.waits_for_deletions():
            return fault
        partition = (self.update_strategy.get("rollingUpdate") or {}).get("partition") or 0
        if partition:
            return (
                f"{self.key} keeps its pods below number {partition} on what they have "
                "(updateStrategy.rollingUpdate.partition): set it to 0"
            )
        if fault := self.unseen():
            return fault
        if not self.complete(None):
            return f"{self.key} has {self.available_pods()} of {self._wanted()} pods updated and available"
        return None

    def complete(self, value: str | None) -> bool:
        """Every pod is of the newest revision and available."""
        if not self.observed():
            return False
        wanted, status = self._wanted(), self.status
        settled = status.get("currentRevision") == status.get("updateRevision")
        updated = status.get("updatedReplicas", 0)
        return bool(settled and updated >= wanted and status.get("replicas", 0) == updated == self.available_pods())

    def available_pods(self) -> int:
        """Return status.availableReplicas."""
        return int(self.status.get("availableReplicas", 0))

    def down(self) -> bool:
        """Return whether more than a quarter of its pods are not available."""
        return too_few(self.available_pods(), self._wanted())

    def hint(self) -> str | None:
        """Say what only a person can do."""
        if self.spec.get("podManagementPolicy") == "Parallel":
            return None
        return "a StatefulSet does not replace a pod that never became ready: delete that pod"

    @staticmethod
    def pods(names: str) -> str:
        """Return <name>-<number>."""
        return f"{names}-[0-9]+"

    def _wanted(self) -> int:
        return int(self.spec.get("replicas", 1))
