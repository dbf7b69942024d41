"""The children of a PruneJob: one Job for each hardware class, and the ModelRollout at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from coppice_api.constants import (
    ANNOTATION_SPEC_DIGEST,
    API_VERSION,
    ENV_POD_IP,
    ENV_RUN_CONFIG,
    LABEL_HARDWARE,
    LABEL_MANAGED_BY,
    LABEL_PRUNEJOB,
    LABEL_QUEUE,
    MANAGED_BY,
    POD_HTTP_PORT,
    WORK_DIRECTORY,
    ExitCode,
)
from coppice_api.contract import pod_claim_mounts, run_config, spec_digest
from coppice_api.modelrollout import Claim, ModelRolloutSpec, RolloutModel
from coppice_api.prunejob import HardwareClass, PruneJob, VariantStatus
from coppice_operator.plan import JsonObject
from coppice_operator.prunejob.nodes import SERVICE_PREFIX, service_manifest, spread

_MAX_NAME = 63
_MAX_LABEL = 63
_NON_ROOT = 65532
MIN_TTL_SECONDS = 60
"""A Job that is gone before anybody saw its end would be run again, to give its report again."""
CONTAINER = "run"


def job_name(prunejob: PruneJob, hardware: HardwareClass) -> str:
    """Return the name of a hardware class's Job: the same for the same object and spec, another for a new one."""
    metadata = prunejob.metadata
    unique = f"{metadata['uid']} {spec_digest(prunejob.spec, hardware)}"
    suffix = f"-{hardware.name}-{hashlib.sha256(unique.encode()).hexdigest()[:8]}"
    # Of several pods each has its index in its host name, and the Service has a prefix.
    limit = _MAX_NAME - len(suffix) - (len(SERVICE_PREFIX) if hardware.nodes > 1 else 0)
    return str(metadata["name"])[:limit].rstrip("-.").replace(".", "-") + suffix


def label_value(name: str) -> str:
    """Return a name as a label value: itself, or its beginning and a digest where it is too long."""
    if len(name) <= _MAX_LABEL:
        return name
    return f"{name[:54]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def shortened(label: str) -> bool:
    """Return whether a label value may be that of a name which is too long."""
    return len(label) == _MAX_LABEL


def owner_reference(prunejob: PruneJob) -> JsonObject:
    """Return the reference that has a child deleted with the PruneJob."""
    return {
        "apiVersion": API_VERSION,
        "kind": PruneJob.KIND,
        "name": prunejob.metadata["name"],
        "uid": prunejob.metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def children(
    prunejob: PruneJob, hardware: HardwareClass, *, default_image: str, placed: HardwareClass | None = None
) -> tuple[JsonObject, ...]:
    """Return what one hardware class needs, in the order in which it is made; the Job is the last."""
    job = job_manifest(prunejob, hardware, default_image=default_image, placed=placed)
    return (service_manifest(job), job) if hardware.nodes > 1 else (job,)


def job_manifest(
    prunejob: PruneJob, hardware: HardwareClass, *, default_image: str, placed: HardwareClass | None = None
) -> JsonObject:
    """Return the Job of one hardware class.

    The pod runs under the restricted Pod Security Standard, without a service account's token, on a read-only root; all
    it may write to is scratch space and the claims that the spec names.

    Args:
        prunejob: Whose.
        hardware: As the spec has it, which names the run.
        default_image: Where the spec names none.
        placed: The class with what its preset adds, which says where the pod goes; None adds nothing.
    """
    placed = placed or hardware
    spec, metadata, run = prunejob.spec, prunejob.metadata, prunejob.spec.run
    labels = {
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_PRUNEJOB: label_value(metadata["name"]),
        LABEL_HARDWARE: hardware.name,
    }
    mounts = pod_claim_mounts(spec)
    config = run_config(spec, hardware, namespace=metadata["namespace"], name=metadata["name"], claim_mounts=mounts)
    # A claim that is only read is still mounted writable when the output goes to it too.
    container: JsonObject = {
        "name": CONTAINER,
        "image": run.image or default_image,
        "command": ["coppice", "pod"],
        "env": [
            {"name": ENV_RUN_CONFIG, "value": config.model_dump_json(by_alias=True, exclude_none=True)},
            {"name": ENV_POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - an emptyDir of the pod's own
        ],
        "ports": [{"name": "metrics", "containerPort": POD_HTTP_PORT}],
        "resources": placed.resources.to_dict(),
        "terminationMessagePath": config.termination_log,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "metrics"},
            "initialDelaySeconds": 30,
            "periodSeconds": 20,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        },
        "volumeMounts": [
            {"name": "work", "mountPath": WORK_DIRECTORY},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *({"name": f"claim-{index}", "mountPath": path} for index, path in enumerate(mounts.values())),
        ],
    }
    if run.credentials_secret_name:
        container["envFrom"] = [{"secretRef": {"name": run.credentials_secret_name}}]
    pod_spec: JsonObject = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _NON_ROOT,
            "runAsGroup": _NON_ROOT,
            "fsGroup": _NON_ROOT,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "work", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            *(
                {"name": f"claim-{index}", "persistentVolumeClaim": {"claimName": claim}}
                for index, claim in enumerate(mounts)
            ),
        ],
        "nodeSelector": placed.node_selector,
        "tolerations": [item.to_dict() for item in placed.tolerations] or None,
        "imagePullSecrets": [{"name": name} for name in run.image_pull_secrets] or None,
        "priorityClassName": run.priority_class_name,
        "runtimeClassName": run.runtime_class_name,
    }
    ttl = run.ttl_seconds_after_finished
    job_labels = {**labels, LABEL_QUEUE: run.queue_name} if run.queue_name else labels
    job_spec: JsonObject = {
        # Kueue admits a queued Job by setting this to false.
        "suspend": bool(run.queue_name),
        "backoffLimit": run.backoff_limit,
        "activeDeadlineSeconds": run.active_deadline_seconds,
        "ttlSecondsAfterFinished": None if ttl is None else max(ttl, MIN_TTL_SECONDS),
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": CONTAINER,
                        "operator": "In",
                        "values": [ExitCode.INPUT_REFUSED.value, ExitCode.MEASUREMENT_IMPOSSIBLE.value],
                    },
                },
            ]
        },
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": str(POD_HTTP_PORT),
                    "prometheus.io/path": "/metrics",
                },
            },
            "spec": _without_none(pod_spec),
        },
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(prunejob, hardware),
            "namespace": metadata["namespace"],
            "labels": job_labels,
            "annotations": {ANNOTATION_SPEC_DIGEST: config.spec_digest},
            "ownerReferences": [owner_reference(prunejob)],
        },
        "spec": _without_none(job_spec),
    }
    return spread(job, hardware.nodes) if hardware.nodes > 1 else job


def rollout_name(prunejob: PruneJob, variants: Sequence[VariantStatus]) -> str:
    """Return the ModelRollout's name: it changes with the model, so that a new one is a new rollout."""
    sha256 = next(variant.artifact.sha256 for variant in variants if variant.artifact)
    # Cut off behind a dot, a name would end in no name at all.
    return f"{str(prunejob.metadata['name'])[:242].rstrip('-.')}-{sha256[:10]}"


def rollout_spec(
    prunejob: PruneJob, variants: Sequence[VariantStatus], placed: Sequence[HardwareClass] | None = None
) -> ModelRolloutSpec:
    """Return the spec of the ModelRollout: the template, the models found, and what is claimed of them.

    Args:
        prunejob: Whose.
        variants: Its results.
        placed: Its classes with what their presets add; None adds nothing.
    """
    assert prunejob.spec.rollout is not None
    selectors = {hardware.name: hardware.node_selector for hardware in placed or prunejob.spec.hardware}
    models = [
        RolloutModel(
            name=variant.hardware,
            uri=variant.artifact.uri,
            sha256=variant.artifact.sha256,
            node_selector=selectors.get(variant.hardware),
            claim=Claim(
                provenance=variant.provenance,
                sha256=variant.artifact.sha256,
                energy_reduction_percent=variant.energy_reduction_percent,
                energy_reduction_low_percent=variant.energy_reduction_low_percent,
                energy_reduction_high_percent=variant.energy_reduction_high_percent,
                accuracy_percent=variant.accuracy_percent,
                dense_accuracy_percent=variant.dense_accuracy_percent,
            )
            if variant.provenance
            else None,
        )
        for variant in variants
        if variant.artifact
    ]
    template = {name: getattr(prunejob.spec.rollout, name) for name in type(prunejob.spec.rollout).model_fields}
    minimum = prunejob.spec.measurement.minimum_provenance.value
    return ModelRolloutSpec(models=models, minimum_provenance=minimum, **template)


def rollout_manifest(
    prunejob: PruneJob, variants: Sequence[VariantStatus], placed: Sequence[HardwareClass] | None = None
) -> JsonObject:
    """Return the ModelRollout; arguments as of `rollout_spec`."""
    metadata = prunejob.metadata
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelRollout",
        "metadata": {
            "name": rollout_name(prunejob, variants),
            "namespace": metadata["namespace"],
            "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_PRUNEJOB: label_value(metadata["name"])},
            "ownerReferences": [owner_reference(prunejob)],
        },
        "spec": rollout_spec(prunejob, variants, placed).to_dict(),
    }


def _without_none(values: JsonObject) -> JsonObject:
    return {key: value for key, value in values.items() if value is not None}
