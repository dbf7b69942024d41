"""A stand-in for KServe's controller, in its Standard (RawDeployment) mode.

It makes what KServe makes of an InferenceService, one Deployment with KServe's labels and its annotation of what to
load, and says of the InferenceService what KServe says: Ready as the Deployment is Available, also while that rolls,
and the Deployment's generation as observedGeneration. It downloads nothing; the container is whatever the test wants.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
REDUCED: Json = yaml.safe_load((Path(__file__).parent / "inferenceservices.yaml").read_text())
"""The CRD that these tests apply."""
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
_NOW = "2026-01-01T00:00:00Z"


def minimal() -> Json:
    """The CRD as KServe's chart kserve-crd-minimal has it: spec and status are one value each, of any content."""
    crd = copy.deepcopy(REDUCED)
    properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for part in ("spec", "status"):
        properties[part] = {
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "x-kubernetes-preserve-unknown-fields": True,
        }
    return crd


def deployment_of(service: Json) -> Json:
    """The Deployment of its predictor."""
    name = service["metadata"]["name"]
    labels = {
        "app": f"isvc.{name}-predictor",
        "serving.kserve.io/inferenceservice": name,
        "component": "predictor",
    }
    model = service["spec"]["predictor"]["model"]
    source = {SOURCE: model["storageUri"]} if "storageUri" in model else {}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{name}-predictor", "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app": labels["app"]}},
            "template": {
                "metadata": {"labels": labels, "annotations": source},
                "spec": {
                    "containers": [{"name": "kserve-container", "image": "server:1"}],
                    "terminationGracePeriodSeconds": 0,
                },
            },
        },
    }


def status_of(deployment: Json) -> Json:
    """What it says of an InferenceService whose Deployment is this."""
    status = deployment.get("status") or {}
    available = next((item for item in status.get("conditions") or () if item["type"] == "Available"), {})
    ready = available.get("status", "Unknown")
    condition = {"status": ready, "lastTransitionTime": available.get("lastTransitionTime", _NOW)}
    return {
        "conditions": [{"type": kind, **condition} for kind in ("IngressReady", "PredictorReady", "Ready")],
        "deploymentMode": "Standard",
        "modelStatus": {"transitionStatus": "UpToDate" if ready == "True" else "InProgress"},
        "observedGeneration": status.get("observedGeneration", 0),
    }
