"""The controllers of every kind of target, and KServe, as stand-ins: one pod each, ready or not."""

from __future__ import annotations

from typing import Any

from coppice_operator.rollout.kinds.inference_service import ANNOTATION_SOURCE, ANNOTATION_STOP

DENSE = "pvc://fleet-models/digits/dense"
PARTS = "parts of the stand-in"
"""Where an InferenceService of ours keeps the Deployment that KServe makes for it."""
Object = dict[str, Any]


def deployment(name: str, value: str | None = DENSE, **metadata: Any) -> Object:
    """A healthy Deployment with one container, `server`."""
    status = {
        "replicas": 1,
        "updatedReplicas": 1,
        "availableReplicas": 1,
        "conditions": [{"type": "Available", "status": "True"}],
    }
    return _with_template("Deployment", name, value, metadata, status)


def stateful_set(name: str, value: str | None = DENSE, **metadata: Any) -> Object:
    """A healthy StatefulSet with one pod."""
    status = {
        "replicas": 1,
        "updatedReplicas": 1,
        "availableReplicas": 1,
        "currentRevision": f"{name}-1",
        "updateRevision": f"{name}-1",
    }
    return _with_template("StatefulSet", name, value, metadata, status)


def daemon_set(name: str, value: str | None = DENSE, **metadata: Any) -> Object:
    """A healthy DaemonSet on one node."""
    status = {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberAvailable": 1}
    return _with_template("DaemonSet", name, value, metadata, status)


def inference_service(name: str, value: str | None = DENSE, **metadata: Any) -> Object:
    """A ready InferenceService, with the Deployment that KServe makes for it in its Standard mode."""
    part = deployment(
        f"{name}-predictor", None, labels={"serving.kserve.io/inferenceservice": name, "component": "predictor"}
    )
    model: Object = {"modelFormat": {"name": "sklearn"}}
    if value is not None:
        model["storageUri"] = value
        part["spec"]["template"]["metadata"] = {"annotations": {ANNOTATION_SOURCE: value}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "fleet", "generation": 1, **metadata},
        "spec": {"predictor": {"model": model}},
        "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]},
        PARTS: [part],
    }


MAKERS = (deployment, stateful_set, daemon_set, inference_service)


def env_value(workload: Object) -> str | None:
    """What the field that carries the model holds."""
    if workload["kind"] == "InferenceService":
        found: str | None = workload["spec"]["predictor"]["model"].get("storageUri")
        return found
    return next((entry["value"] for entry in _env(workload) if entry["name"] == "MODEL_URI"), None)


def give(workload: Object, value: str) -> None:
    """Put a value into that field."""
    if workload["kind"] == "InferenceService":
        workload["spec"]["predictor"]["model"]["storageUri"] = value
        return
    for entry in _env(workload):
        if entry["name"] == "MODEL_URI":
            entry["value"] = value
            return
    _env(workload).append({"name": "MODEL_URI", "value": value})


def hold(workload: Object, held: bool) -> None:
    """Have a workload replace no pods, or do so again, in the way of its kind."""
    spec = workload["spec"]
    match workload["kind"]:
        case "Deployment":
            spec["paused"] = held
        case "StatefulSet":
            spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"partition": int(held)}}
        case "DaemonSet":
            spec["updateStrategy"] = {"type": "OnDelete" if held else "RollingUpdate"}
        case "InferenceService":
            workload["metadata"].setdefault("annotations", {})[ANNOTATION_STOP] = str(held).lower()


def roll(workload: Object) -> None:
    """The spec was changed, by whomever: the pod is made anew."""
    workload["metadata"]["generation"] += 1
    status = workload["status"]
    match workload["kind"]:
        case "Deployment":
            status["updatedReplicas"] = 0
        case "StatefulSet":
            status |= {"updatedReplicas": 0, "updateRevision": f"{workload['metadata']['generation']}"}
        case "DaemonSet":
            status["updatedNumberScheduled"] = 0


def settled(workload: Object) -> bool:
    """Whether a stand-in has nothing to do."""
    status = workload["status"]
    if workload["kind"] == "InferenceService":
        (part,) = workload[PARTS]
        return _loads(part) == env_value(workload) and settled(part)
    updated = status["updatedNumberScheduled" if workload["kind"] == "DaemonSet" else "updatedReplicas"]
    return bool(status["observedGeneration"] == workload["metadata"]["generation"] and updated == 1)


def play(workload: Object, done: bool) -> None:
    """Do what the controller would: see the change, and replace the pod when that is done."""
    status = workload["status"]
    if workload["kind"] == "InferenceService":
        (part,) = workload[PARTS]
        if _loads(part) != env_value(workload):
            part["spec"]["template"]["metadata"] = {"annotations": {ANNOTATION_SOURCE: env_value(workload)}}
            roll(part)
        play(part, done)
        # As KServe has it: the generation of the Deployment, and Ready all the while.
        status["observedGeneration"] = part["metadata"]["generation"]
        return
    status["observedGeneration"] = workload["metadata"]["generation"]
    match workload["kind"]:
        case "Deployment":
            status["updatedReplicas"] = int(done)
        case "StatefulSet":
            status |= {"updatedReplicas": int(done), "availableReplicas": int(done)}
            if done:
                status["currentRevision"] = status["updateRevision"]
        case "DaemonSet":
            status |= {"updatedNumberScheduled": int(done), "numberAvailable": int(done)}


def with_parts(workload: Object) -> list[Object]:
    """A workload as the API server has it, and what its controller made."""
    return [{key: value for key, value in workload.items() if key != PARTS}, *workload.get(PARTS, ())]


def _with_template(kind: str, name: str, value: str | None, metadata: Object, status: Object) -> Object:
    env: list[Object] = [{"name": "PORT", "value": "8080"}]
    if value is not None:
        env.append({"name": "MODEL_URI", "value": value})
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "fleet", "generation": 1, **metadata},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "server", "env": env}]}}},
        "status": {"observedGeneration": 1, **status},
    }


def _env(workload: Object) -> list[Object]:
    entries: list[Object] = workload["spec"]["template"]["spec"]["containers"][0]["env"]
    return entries


def _loads(part: Object) -> str | None:
    metadata = part["spec"]["template"].get("metadata") or {}
    found: str | None = (metadata.get("annotations") or {}).get(ANNOTATION_SOURCE)
    return found
