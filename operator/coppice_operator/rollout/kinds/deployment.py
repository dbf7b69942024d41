"""A Deployment: its own rolling update does the pods, and says when it is done or has given up."""

from __future__ import annotations

from datetime import datetime

from coppice_operator.conditions import instant
from coppice_operator.rollout.kinds.pod_template import PodTemplateWorkload


class Deployment(PodTemplateWorkload):
    """apps/v1 Deployment."""

    def unhealthy(self) -> str | None:
        """It must not be paused, and be observed and available."""
        if self.spec.get("paused"):
            return f"{self.key} is paused"
        if fault := self.unseen():
            return fault
        available = self.condition("Available")
        if available is None or available.get("status") != "True":
            return f"{self.key} is not available"
        return None

    def complete(self, value: str | None) -> bool:
        """As `kubectl rollout status` judges."""
        if not self.observed() or self.failed():
            return False
        want, replicas = self.spec.get("replicas", 1), self.status.get("replicas", 0)
        updated = self.status.get("updatedReplicas", 0)
        return bool(updated >= want and replicas == updated == self.status.get("availableReplicas", 0))

    def available_pods(self) -> int:
        """Return status.availableReplicas."""
        return int(self.status.get("availableReplicas", 0))

    def down(self) -> bool:
        """Return whether it says that it is not available."""
        available = self.condition("Available")
        return available is not None and available.get("status") == "False"

    def down_since(self) -> datetime | None:
        """Return since when it says so."""
        return self.since("Available", "False")

    def failed(self) -> bool:
        """Return whether its own progressDeadlineSeconds passed on its present template."""
        progressing = self.condition("Progressing")
        return self.observed() and progressing is not None and progressing.get("reason") == "ProgressDeadlineExceeded"

    def arrived_at(self) -> datetime | None:
        """Return when it last came on."""
        return instant((self.condition("Progressing") or {}).get("lastUpdateTime"))

    @staticmethod
    def pods(names: str) -> str:
        """Return <name>-<hash of the template>-<five characters>."""
        return f"{names}-[a-z0-9]+-[a-z0-9]+"
