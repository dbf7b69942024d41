"""Nodes that KWOK plays: they take pods as any node does, and every run on them ends well after a moment.

For measuring, where real processes would be the bottleneck. The stages are KWOK's own, from its module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from devcluster import binaries

ANNOTATION = "kwok.x-k8s.io/node"
STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)
LEASE_SECONDS = 40
_REASON = "reason: Completed"


def stages(termination_message: str, run_seconds: float, ill: str) -> str:
    """Return KWOK's configuration.

    Args:
        termination_message: Of the containers of every Job; no line breaks.
        run_seconds: For how long a Job's pod runs.
        ill: A jq expression; a pod of which it gives something never becomes ready. Empty: there is none.
    """
    module = binaries.module_files("sigs.k8s.io/kwok", f"v{binaries.KWOK_VERSION}")
    documents = [yaml.safe_load((module / "kustomize" / "stage" / name).read_text()) for name in STAGES]
    stage = {item["metadata"]["name"]: item for item in documents}
    stage["pod-complete"] = _ending(stage["pod-complete"], termination_message, run_seconds)
    if ill:
        never = {"key": ill, "operator": "DoesNotExist"}
        stage["pod-ready"]["spec"]["selector"]["matchExpressions"].append(never)
    return yaml.safe_dump_all(stage.values())


def node(position: int, gpus: int) -> dict[str, Any]:
    """Return a node that is KWOK's to play."""
    room = {"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "4Ti", "pods": "2000", "nvidia.com/gpu": str(gpus)}
    name = f"kwok-{position}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {ANNOTATION: "fake"}, "labels": {"kubernetes.io/hostname": name}},
        "status": {"capacity": room, "allocatable": room},
    }


def arguments(program: Path, directory: Path) -> tuple[str, ...]:
    """Return KWOK's command line; its configuration is kwok.yaml in the cluster's directory."""
    return (
        str(program),
        f"--kubeconfig={directory / 'kubeconfig'}",
        f"--config={directory / 'kwok.yaml'}",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
        # Without it nothing renews the leases that say that the nodes live.
        f"--node-lease-duration-seconds={LEASE_SECONDS}",
    )


def _ending(stage: dict[str, Any], message: str, run_seconds: float) -> dict[str, Any]:
    template = stage["spec"]["next"]["statusTemplate"]
    indent = next(line.partition(_REASON)[0] for line in template.splitlines() if _REASON in line)
    quoted = "'" + message.replace("'", "''") + "'"
    told = template.replace(_REASON, f"{_REASON}\n{indent}message: {quoted}")
    delay = {"durationMilliseconds": round(run_seconds * 1000)}
    return {**stage, "spec": {**stage["spec"], "delay": delay, "next": {"statusTemplate": told}}}
