"""A fleet of every kind on the real control plane: its controllers are real, but for KServe's."""

from __future__ import annotations

import contextlib
from typing import Any

from tests.integration.operator.faults.api import APPLY, ApiError, Json, path_of
from tests.integration.operator.faults.world import World
from tests.kserve import stand_in

RESOURCES = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "InferenceService": "inferenceservices",
}
CRD = "inferenceservices.serving.kserve.io"
URI = "pvc://fleet-models/runs/pruned"


class Fleet:
    """What people and KServe do in a world.

    Args:
        world: Its namespace and operator.
        node: Of DaemonSets' pods; empty where there are none.
    """

    def __init__(self, world: World, node: str = "") -> None:
        self.world, self.node = world, node

    def add(self, kind: str, name: str = "web", **spec: Any) -> Json:
        """Create a workload; a StatefulSet has two pods, and a DaemonSet one on the test's node."""
        if kind == "InferenceService":
            model = {"modelFormat": {"name": "sklearn"}, "runtime": "kserve-sklearnserver"}
            predictor = {"minReplicas": 1, "model": model, **spec}
            return self.world.api.create(
                self.world.name, RESOURCES[kind],
                {"apiVersion": "serving.kserve.io/v1beta1", "kind": kind, "metadata": {"name": name},
                 "spec": {"predictor": predictor}},
            )  # fmt: skip
        # The world's `sick` takes a pod by this label.
        labels = {"app": f"{name}-{kind.lower()}"}
        pod: Json = {"containers": [{"name": "server", "image": "server:1"}], "terminationGracePeriodSeconds": 0}
        own: Json = {"Deployment": {}, "StatefulSet": {"replicas": 2, "serviceName": name}, "DaemonSet": {}}[kind]
        if kind == "DaemonSet":
            pod["nodeSelector"] = {"kubernetes.io/hostname": self.node}
        template = {"metadata": {"labels": labels}, "spec": pod}
        whole = {"selector": {"matchLabels": labels}, "template": template} | own | spec
        return self.world.api.create(self.world.name, RESOURCES[kind], {"metadata": {"name": name}, "spec": whole})

    def target(self, kind: str, name: str = "web") -> Json:
        """The entry of spec.targets for one."""
        return {"kind": kind, "name": name} | ({"inject": {"storageUri": True}} if kind == "InferenceService" else {})

    def get(self, kind: str, name: str = "web") -> Json:
        """Return a workload."""
        return self.world.get(RESOURCES[kind], name)

    def model_of(self, kind: str, name: str = "web") -> str | None:
        """What the field that carries its model holds."""
        spec = self.get(kind, name)["spec"]
        if kind == "InferenceService":
            found: str | None = spec["predictor"]["model"].get("storageUri")
            return found
        (container,) = spec["template"]["spec"]["containers"]
        return next((item["value"] for item in container.get("env", []) if item["name"] == "MODEL_URI"), None)

    def until(self, condition: Any, what: str) -> None:
        """Play kubelet and KServe until a condition holds."""

        def both() -> Any:
            self._kserve()
            return condition()

        self.world.until(both, what)

    def ends(self, reason: str, name: str = "digits") -> None:
        """Wait until the rollout stands so."""
        self.until(lambda: (self.world.get("modelrollouts", name).get("status") or {}).get("state") == reason, reason)

    def healthy(self, *kinds: str) -> None:
        """Wait until every workload has all of its pods."""

        def counts() -> bool:
            found = [self.get(kind).get("status") or {} for kind in kinds]
            pods = [
                status.get("availableReplicas") or status.get("numberAvailable") or len(status.get("conditions") or ())
                for status in found
            ]
            return all(pods)

        self.until(counts, "a healthy fleet")

    def _kserve(self) -> None:
        api, space = self.world.api, self.world.name
        try:
            services = api.list(space, RESOURCES["InferenceService"])
        except ApiError:
            # Not installed.
            return
        for service in services:
            wanted = stand_in.deployment_of(service)
            path = path_of(space, "deployments", wanted["metadata"]["name"])
            made = api.call("PATCH", f"{path}?fieldManager=kserve&force=true", wanted, APPLY)
            status = stand_in.status_of(made)
            if service.get("status") != status:
                with contextlib.suppress(ApiError):
                    patch = {"status": status}
                    api.merge(space, RESOURCES["InferenceService"], service["metadata"]["name"], patch, "status")
