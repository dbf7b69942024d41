"""Who else writes a target: Argo CD and Flux put a patched field back, so a rollout must not fight them.

Argo CD marks what it tracks with an annotation, a label of its own, or (its default for years) the general
label app.kubernetes.io/instance. That last one is also Helm's and everybody's, so alone it says nothing; it
counts only beside another argocd.argoproj.io annotation.
"""

from __future__ import annotations

from coppice_api.constants import ANNOTATION_ALLOW_DIRECT
from coppice_operator.plan import JsonObject

ARGO_TRACKING_ANNOTATION = "argocd.argoproj.io/tracking-id"
ARGO_INSTANCE_LABEL = "argocd.argoproj.io/instance"
ARGO_PREFIX = "argocd.argoproj.io/"
GENERAL_INSTANCE_LABEL = "app.kubernetes.io/instance"
FLUX_LABELS = (
    "kustomize.toolkit.fluxcd.io/name",
    "kustomize.toolkit.fluxcd.io/namespace",
    "helm.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/namespace",
)


def gitops_owner(workload: JsonObject) -> str | None:
    """Return how a GitOps tool marks the workload as its own ("Argo CD (label ...)"), or None."""
    labels = workload.get("metadata", {}).get("labels") or {}
    annotations = workload.get("metadata", {}).get("annotations") or {}
    if ARGO_TRACKING_ANNOTATION in annotations:
        return f"Argo CD (annotation {ARGO_TRACKING_ANNOTATION})"
    if ARGO_INSTANCE_LABEL in labels:
        return f"Argo CD (label {ARGO_INSTANCE_LABEL})"
    if GENERAL_INSTANCE_LABEL in labels and any(key.startswith(ARGO_PREFIX) for key in annotations):
        return f"Argo CD (label {GENERAL_INSTANCE_LABEL} beside its annotations)"
    for label in FLUX_LABELS:
        if label in labels:
            return f"Flux (label {label})"
    return None


def allows_direct(workload: JsonObject) -> bool:
    """Return whether the target's owner lets a rollout patch it although a GitOps tool owns it."""
    annotations = workload.get("metadata", {}).get("annotations") or {}
    return bool(annotations.get(ANNOTATION_ALLOW_DIRECT) == "true")
