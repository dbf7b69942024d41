"""One namespace with one operator behind one proxy, and what a kubelet, people and a Prometheus would do in it.

There are no nodes: `step` says of every pod what a kubelet would, so that a life takes a second or two. Everything
else, the Job and Deployment controllers above all, is real.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devcluster import Cluster
from tests.builders import model_rollout, prune_job
from tests.integration.operator.faults.api import Api, ApiError, Json
from tests.integration.operator.faults.proxy import FaultProxy
from tests.integration.operator.faults.warm import WarmOperator
from tests.integration.operator.support import report

HARDWARE = "coppice.dev/hardware"
DEADLINE_SECONDS = 60.0
_POLL_SECONDS = 0.1
_NOW = "2026-01-01T00:00:00Z"


class World:
    """Use with `with`.

    Args:
        cluster: The control plane.
        name: Of the namespace; made here.
        directory: For the kubeconfig and the operator's log.
        token: What the operator says it is; the administrator when not named.
        arguments: More arguments of `coppice operator`.
    """

    def __init__(
        self, cluster: Cluster, name: str, directory: Path, *, token: str = "", arguments: tuple[str, ...] = ()
    ) -> None:
        self.api, self.name = Api(cluster), name
        self.proxy = FaultProxy(cluster.api_server_url, cluster.ca_file)
        self._token, self._directory, self._arguments = token or cluster.token, directory, arguments
        self.runs: dict[str, Json] = {}
        """What becomes of the run's pod of each hardware class: a pod status; those not named stay pending."""
        self.sick: set[str] = set()
        """Deployments whose pods never become ready with a model of ours."""
        self.revive = False
        """Start the operator again whenever it has ended."""
        self.jobs_seen: dict[str, str] = {}
        """uid to hardware class of every Job that ever was in the namespace."""

    def __enter__(self) -> Self:
        """Make the namespace, start the proxy and the operator, and wait until it watches."""
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            stack.callback(self.api.close)
            self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})
            stack.callback(lambda: self.api.delete("", "namespaces", self.name))
            stack.enter_context(self.proxy)
            self.operator = self.another()
            stack.callback(lambda: self.operator.end())
            self.proxy.victim = lambda: self.operator.kill()
            self.until(self.operator.ready, "the operator")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        self._stack.close()

    def another(self) -> WarmOperator:
        """Start an operator on this namespace; the caller ends it."""
        kubeconfig = self.proxy.kubeconfig(self._directory / f"{self.name}.kubeconfig", self._token)
        log = self._directory / f"{self.name}.log"
        return WarmOperator(kubeconfig, log, "--namespace", self.name, *self._arguments)

    def become(self, token: str) -> None:
        """Start the operator again as somebody else."""
        self.operator.end()
        self._token = token
        self.operator = self.another()

    # What people do.

    def prunejob(self, name: str = "digits", **values: Any) -> Json:
        """Create a PruneJob; keywords as in `tests.builders.prune_job`."""
        document = prune_job(measurement__minimumProvenance="Estimated", **values)
        document["metadata"]["name"] = name
        return self.api.create(self.name, "prunejobs", document)

    def rollout(self, name: str = "digits", **values: Any) -> Json:
        """Create a ModelRollout."""
        document = model_rollout(**values)
        document["metadata"]["name"] = name
        return self.api.create(self.name, "modelrollouts", document)

    def deployment(self, name: str, *, replicas: int = 1, patience_seconds: int = 600, **metadata: Any) -> Json:
        """Create an inference Deployment."""
        labels = {"app": name}
        return self.api.create(
            self.name, "deployments",
            {
                "metadata": {"name": name, **metadata},
                "spec": {
                    "replicas": replicas,
                    "progressDeadlineSeconds": patience_seconds,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [{"name": "server", "image": "server:1"}],
                                 "terminationGracePeriodSeconds": 0},
                    },
                },
            },
        )  # fmt: skip

    def edit(self, resource: str, name: str, subresource: str = "", **patch: Any) -> Json:
        """Merge-patch an object."""
        return self.api.merge(self.name, resource, name, patch, subresource)

    def delete(self, resource: str, name: str) -> None:
        """Delete an object."""
        self.api.delete(self.name, resource, name)

    def finish(self, *hardware: str, exit_code: int = 0, message: str | None = None) -> None:
        """Have the runs of some classes end (of `default` when none is named), by default with a good report."""
        for name in hardware or ("default",):
            self.runs[name] = ended(exit_code, report() if message is None else message)

    def begin(self, *hardware: str) -> None:
        """Have the pods of some classes run."""
        for name in hardware or ("default",):
            self.runs[name] = {"phase": "Running"}

    # What people see.

    def items(self, resource: str) -> list[Json]:
        """Return the objects of a kind that are not being deleted."""
        return [item for item in self.api.list(self.name, resource) if "deletionTimestamp" not in item["metadata"]]

    def get(self, resource: str, name: str = "digits") -> Json:
        """Return an object; empty when it is not there."""
        return self.api.get(self.name, resource, name) or {}

    def jobs(self) -> list[Json]:
        """Return the Jobs, and remember each."""
        found = self.items("jobs")
        for job in found:
            self.jobs_seen[job["metadata"]["uid"]] = job["metadata"]["labels"].get(HARDWARE, "")
        return found

    def condition(self, kind: str, name: str = "digits", resource: str = "prunejobs") -> tuple[str, str, str]:
        """Return status, reason and message of a condition."""
        found = self.get(resource, name).get("status", {}).get("conditions", [])
        return next(((item["status"], item["reason"], item["message"]) for item in found if item["type"] == kind),
                    ("", "", ""))  # fmt: skip

    def holds(self, kind: str, name: str = "digits", *, reason: str = "", resource: str = "prunejobs") -> bool:
        """Whether a condition is True, for this reason if one is named, and speaks of the object as it is."""
        item = self.get(resource, name)
        status = item.get("status", {})
        found = self.condition(kind, name, resource)
        current = status.get("observedGeneration") == item.get("metadata", {}).get("generation")
        return current and found[0] == "True" and found[1] == (reason or found[1])

    def state(self, name: str = "digits", hardware: str = "default") -> str:
        """Return the state of one hardware class."""
        variants = self.get("prunejobs", name).get("status", {}).get("variants", [])
        return next((item["state"] for item in variants if item["hardware"] == hardware), "")

    def model_of(self, deployment: str) -> str:
        """Return the model a Deployment's pods are told to serve."""
        (container,) = self.get("deployments", deployment)["spec"]["template"]["spec"]["containers"]
        return next((item["value"] for item in container.get("env", []) if item["name"] == "MODEL_URI"), "")

    def events(self) -> str:
        """Return what `kubectl describe` would show, a line an Event."""
        return "\n".join(f"{item['reason']}: {item['message']}" for item in self.items("events"))

    def created_jobs(self) -> int:
        """Return how many Jobs the operator has had made, whoever has deleted them since."""
        return sum(write.kind == "create jobs" and write.status == 201 for write in self.proxy.writes)

    # What happens.

    def until(self, condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> None:
        """Play the kubelet until a condition holds."""
        deadline = time.monotonic() + seconds
        while True:
            # Faults of the API server itself are the operator's to live with, not the test's.
            with contextlib.suppress(OSError, ApiError):
                self.step()
                if condition():
                    return
            assert time.monotonic() < deadline, f"{self.name}: {what}: not within {seconds:.0f} s\n{self._tell()}"
            time.sleep(_POLL_SECONDS)

    def settled(self) -> bool:
        """Whether the operator that runs now has looked at what is there, and has nothing left to do."""
        depth = re.search(r"^coppice_operator_queue_depth (\S+)", self.operator.get("/metrics"), re.MULTILINE)
        return self.operator.ready() and self.operator.passes() > 0 and depth is not None and float(depth[1]) == 0

    def step(self) -> None:
        """Do what a kubelet does, once; and start the operator that a fault has killed."""
        if self.revive and not self.operator.alive:
            self.operator.restart()
        for pod in self.api.list(self.name, "pods"):
            wanted = self._wanted(pod)
            phase = pod.get("status", {}).get("phase")
            if wanted is None or phase in ("Succeeded", "Failed") or phase == wanted["phase"]:
                continue
            # It may be gone, or changed by the scheduler, in between.
            with contextlib.suppress(ApiError):
                self.api.merge(self.name, "pods", pod["metadata"]["name"], {"status": wanted}, "status")

    def _wanted(self, pod: Json) -> Json | None:
        labels = pod["metadata"].get("labels", {})
        if HARDWARE in labels:
            return self.runs.get(labels[HARDWARE])
        ill = labels.get("app") in self.sick and pod["spec"]["containers"][0].get("env")
        return None if ill else _READY

    def _tell(self) -> str:
        told = [str(self.get(kind, item["metadata"]["name"]).get("status")) for kind in ("prunejobs", "modelrollouts")
                for item in self.items(kind)]  # fmt: skip
        return "\n".join([*told, *self.operator.log.read_text().splitlines()[-15:]])


def ended(exit_code: int, message: str) -> Json:
    """Return the status of a pod whose run has ended."""
    reason = "Completed" if exit_code == 0 else "Error"
    terminated = {"exitCode": exit_code, "reason": reason, "message": message, "startedAt": _NOW, "finishedAt": _NOW}
    return {
        "phase": "Succeeded" if exit_code == 0 else "Failed",
        "containerStatuses": [
            {"name": "run", "image": "i", "imageID": "i", "ready": False, "restartCount": 0,
             "state": {"terminated": terminated}}
        ],
    }  # fmt: skip


_READY: Json = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": _NOW}],
}


def plain(value: Any, names: dict[str, str]) -> Any:
    """Return a status without what differs from life to life: times, and names made of uids."""
    if isinstance(value, dict):
        return {key: plain(item, names) for key, item in value.items()
                if not re.search("Time$|^uid$|^observedGeneration$", key)}  # fmt: skip
    if isinstance(value, list):
        return [plain(item, names) for item in value]
    if isinstance(value, str):
        for name, stand_in in names.items():
            value = value.replace(name, stand_in)
    return value
