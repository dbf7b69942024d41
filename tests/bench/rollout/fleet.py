"""The fleet: Deployments of one replica, half of them with the model's variable set, half without."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from coppice_cli.cluster import Cluster, collection

Json = dict[str, Any]
APPS = "apis/apps/v1"
DENSE = "pvc://fleet-models/dense"
MARK = "bench"


def name(number: int) -> str:
    """Return a Deployment's name."""
    return f"server-{number:04}"


def create(client: Cluster, count: int) -> list[str]:
    """Make the Deployments and return their names, in the order in which waves take them."""
    names = [name(number) for number in range(count)]
    for number, made in enumerate(names):
        client.create(collection("deployments", client.namespace, APPS), _manifest(made, set_before=number % 2 == 0))
    return names


def templates(client: Cluster) -> dict[str, str]:
    """Return the pod template of every Deployment, as the API server writes it."""
    items = client.list_all(collection("deployments", client.namespace, APPS))
    return {item["metadata"]["name"]: json.dumps(item["spec"]["template"]) for item in items}


def available(client: Cluster) -> Callable[[], bool]:
    """Return what says whether every Deployment is available."""

    def held() -> bool:
        items = client.list_all(collection("deployments", client.namespace, APPS))
        return all((item.get("status") or {}).get("availableReplicas", 0) == 1 for item in items)

    return held


def model_of(deployment: Json) -> str | None:
    """Return what a Deployment's pods are told to serve."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return next((entry["value"] for entry in container.get("env") or () if entry["name"] == "MODEL_URI"), None)


def _manifest(name: str, *, set_before: bool) -> Json:
    labels = {"app": name}
    container: Json = {"name": "server", "image": "server:1", "ports": [{"containerPort": 8080}]}
    if set_before:
        container["env"] = [{"name": "MODEL_URI", "value": DENSE}, {"name": "THREADS", "value": "1"}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"fleet": MARK}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
        },
    }
