"""Tools that others bring: Kueue, Argo CD, Flux, the Prometheus operator. None is needed, each wants to know us."""

from __future__ import annotations

from collections.abc import Iterator

from coppice_api.constants import GROUP
from coppice_cli.cluster import Cluster, ClusterError, JsonObject
from coppice_cli.doctor.finding import Finding, Verdict

_HEALTH = tuple(f"resource.customizations.health.{GROUP}_{kind}" for kind in ("PruneJob", "ModelRollout"))


def examine(cluster: Cluster) -> Iterator[Finding]:
    """Yield a finding for each tool."""
    served = {item["name"] for item in cluster.get("/apis")["groups"]}
    if "kueue.x-k8s.io" in served:
        yield Finding("cluster/kueue", Verdict.OK, "Kueue is installed: run.queueName names a LocalQueue")
    else:
        yield Finding("cluster/kueue", Verdict.ABSENT, "Kueue is not installed; only run.queueName needs it")
    if "argoproj.io" in served:
        yield _argo(cluster)
    if any(group.endswith(".toolkit.fluxcd.io") for group in served):
        yield Finding(
            "cluster/gitops/flux", Verdict.OK, "Flux is installed; it reads the health of both kinds by itself"
        )
    if "argoproj.io" not in served and not any(group.endswith(".toolkit.fluxcd.io") for group in served):
        yield Finding(
            "cluster/gitops",
            Verdict.ABSENT,
            "neither Argo CD nor Flux is installed; only strategy.delivery: Git needs one",
        )
    if "monitoring.coreos.com" in served:
        yield _monitors(cluster)


def _argo(cluster: Cluster) -> Finding:
    check = "cluster/gitops/argocd"
    try:
        found = cluster.list_all("/api/v1/configmaps", fieldSelector="metadata.name=argocd-cm")
    except ClusterError as error:
        if error.status != 403:
            raise
        return Finding(
            check, Verdict.UNKNOWN, "Argo CD is installed; you may not see its argocd-cm", "see docs/gitops.md"
        )
    known: JsonObject = {key: value for item in found for key, value in (item.get("data") or {}).items()}
    missing = [key for key in _HEALTH if key not in known]
    if missing:
        return Finding(
            check, Verdict.WARNING, f"Argo CD takes every PruneJob for Healthy at once: argocd-cm lacks {missing[0]}",
            "kubectl -n argocd patch configmap argocd-cm --patch-file examples/argocd/argocd-cm.yaml",
        )  # fmt: skip
    return Finding(check, Verdict.OK, "Argo CD knows the health of both kinds")


def _monitors(cluster: Cluster) -> Finding:
    check = "cluster/prometheus-operator"
    try:
        found = cluster.list_all(
            "/apis/monitoring.coreos.com/v1/podmonitors", labelSelector="app.kubernetes.io/name=coppice"
        )
    except ClusterError as error:
        if error.status not in (403, 404):
            raise
        return Finding(check, Verdict.UNKNOWN, "the Prometheus operator is installed; its PodMonitors cannot be seen")
    if not found:
        return Finding(
            check, Verdict.WARNING, "the Prometheus operator is installed, and there is no PodMonitor of ours",
            "helm upgrade coppice charts/coppice --reuse-values --set monitoring.enabled=true, and "
            "monitoring.additionalLabels as your Prometheus selects by",
        )  # fmt: skip
    return Finding(check, Verdict.OK, f"{len(found)} PodMonitors of ours")
