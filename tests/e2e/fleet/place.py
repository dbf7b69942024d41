"""Six Deployments of the example's server under steady load, with a Prometheus and an operator."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from demo.place import EXAMPLES, ROOT
from devcluster import Cluster, ClusterOptions
from tests.e2e.fleet import models
from tests.e2e.fleet.models import Offer
from tests.integration.conftest import Kubectl
from tests.waiting import wait_for

MANIFEST = ROOT / "examples" / "digits" / "03-fleet.yaml"
STORAGE = ROOT / "examples" / "digits" / "01-storage.yaml"
NAMES = tuple(f"digits-{letter}" for letter in "abcdef")
SELECTOR = "app.kubernetes.io/part-of=digits-fleet"
REQUESTS_PER_SECOND = 3
"""To each Deployment."""
LAG_SECONDS = 2
"""For how long the load goes on to pods that leave, as through a proxy that hears of it late."""
WINDOW_SECONDS = 15
DEADLINE_SECONDS = 240.0
"""For each step. On a quiet machine none takes a third of it."""
ENDED = ("RolledOut", "RolledBack", "RollbackFailed", "Superseded", "Failed")


@dataclass
class Place:
    """The fleet, and what a person holds of it."""

    cluster: Cluster
    kubectl: Kubectl
    claim: Path
    dense_model: Any
    dense: Offer
    load_file: Path
    operator_log: Path
    operator: subprocess.Popen[bytes]
    load: subprocess.Popen[bytes]

    def offer(self, name: str, offer: Offer, **spec: Any) -> None:
        """Create a ModelRollout whose claims are those of a good model, whatever the model is."""
        model = {
            "name": "digits",
            "uri": f"pvc://fleet-models/{offer.directory}",
            "sha256": offer.sha256,
            "claim": {
                "provenance": "Estimated", "sha256": offer.sha256, "accuracyPercent": "99.5",
                "denseAccuracyPercent": "99.8", "energyReductionPercent": "55.0",
                "energyReductionLowPercent": "50.0", "energyReductionHighPercent": "60.0",
            },
        }  # fmt: skip
        analysis = {
            "prometheus": {"address": self.cluster.prometheus_url, "timeoutSeconds": 5},
            "intervalSeconds": 2,
            "windowSeconds": WINDOW_SECONDS,
            "checks": [
                # Beside the rest of the fleet at the same time: whatever else these cores do, they do to all. Accuracy
                # is of the same samples and has no noise; CPU time has, and 8 s after its start a server runs evenly.
                {"name": "accuracy", "preset": "accuracy", "compare": "Canary", "thresholdRange": {"min": "0.99"}},
                {"name": "energy", "preset": "energyPerInference", "compare": "Canary", "initialDelaySeconds": 8,
                 "thresholdRange": {"max": "2"}, "consecutiveErrorLimit": 1},
                {"name": "errors", "preset": "errorRate", "thresholdRange": {"max": "0"}},
            ],
        }  # fmt: skip
        rollout = {
            "apiVersion": "coppice.dev/v1alpha1",
            "kind": "ModelRollout",
            "metadata": {"name": name},
            "spec": {
                "models": [model],
                "minimumProvenance": "Estimated",
                "minimumClaim": {"energyReductionPercent": "30", "maxAccuracyDropPoints": "0.5"},
                "targets": [{"selector": {"matchLabels": {"app.kubernetes.io/part-of": "digits-fleet"}}}],
                "strategy": {
                    "waves": [{"targets": 1, "pauseSeconds": 10}, {"targets": "100%", "pauseSeconds": 3}],
                    "maxUnavailable": 3,
                },
                "analysis": analysis,
                **spec,
            },
        }
        self.kubectl.must("create", "-f", "-", stdin=rollout)

    def status(self, name: str) -> dict[str, Any]:
        """Return a rollout's status."""
        return dict(json.loads(self.kubectl.must("get", "modelrollout", name, "-o", "json")).get("status", {}))

    def follow(self, name: str, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Wait until a rollout's status fulfils a condition and return it."""
        found: dict[str, Any] = {}

        def fulfilled() -> bool:
            assert self.operator.poll() is None, self.operator_log.read_text()[-3000:]
            assert self.load.poll() is None, "the load ended"
            found.clear()
            found.update(self.status(name))
            return condition(found)

        try:
            wait_for(fulfilled, what, deadline_seconds=DEADLINE_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}; status: {json.dumps(found, indent=1)}") from error
        return found

    def end_of(self, name: str) -> dict[str, Any]:
        """Wait for a rollout's end and return its status."""
        return self.follow(name, lambda status: status.get("state") in ENDED, f"the end of {name}")

    def deployments(self) -> dict[str, dict[str, Any]]:
        """Return the fleet by name."""
        found = json.loads(self.kubectl.must("get", "deployments", "-l", SELECTOR, "-o", "json"))["items"]
        return {item["metadata"]["name"]: item for item in found}

    def templates(self) -> dict[str, str]:
        """Return every Deployment's pod template, to the byte."""
        return {name: json.dumps(item["spec"]["template"]) for name, item in self.deployments().items()}

    def generations(self) -> dict[str, int]:
        """Return how often each Deployment was changed."""
        return {name: item["metadata"]["generation"] for name, item in self.deployments().items()}

    def model_uris(self) -> dict[str, str]:
        """Return the model that each Deployment names."""
        return {name: _model_uri(item) for name, item in self.deployments().items()}

    def wait_for_load(self) -> dict[str, Any]:
        """Return what the load has counted, after every Deployment was asked several times from now on."""
        before = {name: counts["sent"] for name, counts in self.counted()["deployments"].items()}
        more = 5 * REQUESTS_PER_SECOND

        def asked() -> bool:
            now = self.counted()["deployments"]
            return all(now[name]["sent"] >= before.get(name, 0) + more for name in NAMES if name in now)

        wait_for(asked, "more requests", deadline_seconds=DEADLINE_SECONDS)
        return self.counted()

    def counted(self) -> dict[str, Any]:
        """Return what the load has counted so far; it says so every second."""
        return dict(json.loads(self.load_file.read_text()))

    def query(self, promql: str) -> list[dict[str, Any]]:
        """Ask Prometheus."""
        url = f"{self.cluster.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return list(json.load(response)["data"]["result"])


@contextmanager
def place(directory: Path) -> Iterator[Place]:
    """Give the fleet under load, every one of its pods available."""
    torch.set_num_threads(1)
    options = ClusterOptions(name="fleet", nodes=1, prometheus=True, python_path=EXAMPLES)
    with Cluster(options) as cluster, ExitStack() as programs:
        kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
        kubectl.must("apply", "--server-side", "-f", str(ROOT / "crds"))
        kubectl.must("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        kubectl.must("apply", "-f", str(STORAGE))
        kubectl.must("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/fleet-models", "--timeout=60s")
        (claim,) = (cluster.directory / "volumes").glob("default-fleet-models-*")
        dense_model, dense = models.dense(claim)
        for name in NAMES:
            kubectl.must("create", "-f", "-", stdin=_deployment(name, dense))
        wait_for(lambda: _available(kubectl) == len(NAMES), "the fleet", deadline_seconds=DEADLINE_SECONDS)
        load_file, operator_log = directory / "load.json", directory / "operator.log"
        load = programs.enter_context(
            _running(
                ["-m", "digits.traffic", "--selector", SELECTOR, "--rate", str(REQUESTS_PER_SECOND), "--lag",
                 str(LAG_SECONDS), "--batch", "16", "--summary", str(load_file)],
                directory / "load.log", cluster, {"PYTHONPATH": os.pathsep.join(str(item) for item in EXAMPLES)},
            )
        )  # fmt: skip
        operator = programs.enter_context(
            _running(
                ["-m", "coppice_cli.main", "operator", "--namespace", "default", "--host", "127.0.0.1", "--port", "0"],
                operator_log, cluster, {},
            )
        )  # fmt: skip
        found = Place(cluster, kubectl, claim, dense_model, dense, load_file, operator_log, operator, load)
        wait_for(
            lambda: load_file.exists() and set(found.counted()["deployments"]) == set(NAMES),
            "load on the whole fleet",
            deadline_seconds=DEADLINE_SECONDS,
        )
        yield found


@contextmanager
def _running(
    arguments: list[str], log: Path, cluster: Cluster, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "OMP_NUM_THREADS": "1", **environment},
            stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _deployment(name: str, dense: Offer) -> dict[str, Any]:
    """Return the example's first Deployment under another name, serving the dense model by its digest."""
    example = next(yaml.safe_load_all(MANIFEST.read_text()))
    text = json.dumps(example).replace(example["metadata"]["name"], name)
    deployment = copy.deepcopy(json.loads(text))
    for entry in deployment["spec"]["template"]["spec"]["containers"][0]["env"]:
        if entry["name"] == "MODEL_URI":
            entry["value"] = f"pvc://fleet-models/{dense.directory}#sha256={dense.sha256}"
        if entry["name"] == "PROBE_SECONDS":
            entry["value"] = "5"
    return dict(deployment)


def _available(kubectl: Kubectl) -> int:
    found = json.loads(kubectl.must("get", "deployments", "-l", SELECTOR, "-o", "json"))["items"]
    return sum(item["status"].get("availableReplicas", 0) > 0 for item in found)


def _model_uri(deployment: dict[str, Any]) -> str:
    environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return next(str(entry["value"]) for entry in environment if entry["name"] == "MODEL_URI")
