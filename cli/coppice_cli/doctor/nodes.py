"""Nodes for a class of hardware: does one match, is it tainted, has it what is asked for, does its GPU count energy?

What the scheduler decides is not foretold: other pods are not subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from coppice_api.prunejob import HardwareClass, Toleration, TolerationOperator
from coppice_cli.cluster import Cluster, ClusterError, JsonObject
from coppice_cli.doctor.finding import Finding, Verdict

GPU = "nvidia.com/gpu"
PRODUCT, MIG = "nvidia.com/gpu.product", "nvidia.com/mig.strategy"
_UNITS = {
    "m": Decimal("0.001"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50),
}  # fmt: skip


def examine(cluster: Cluster, classes: Sequence[HardwareClass]) -> Iterator[Finding]:
    """Yield a finding for each class; without any, for the GPUs that there are."""
    try:
        nodes = cluster.list_all("/api/v1/nodes")
    except ClusterError as error:
        if error.status != 403:
            raise
        yield Finding(
            "cluster/nodes", Verdict.UNKNOWN, "you may not list nodes", "ask somebody who may: kubectl get nodes -L "
            f"{PRODUCT}",
        )  # fmt: skip
        return
    if not classes:
        yield _gpus(nodes)
    for item in classes:
        yield _class(item, nodes)


def quantity(text: str) -> Decimal:
    """Return a Kubernetes quantity, 0 for one that cannot be read."""
    digits = text.rstrip("mkMGTPEi")
    unit = text[len(digits) :]
    try:
        return Decimal(digits) * _UNITS[unit]
    except (ArithmeticError, KeyError):
        return Decimal(0)


def _gpus(nodes: Sequence[JsonObject]) -> Finding:
    found: dict[str, Decimal] = {}
    for node in nodes:
        count = quantity(_allocatable(node).get(GPU, "0"))
        if count:
            product = _labels(node).get(PRODUCT, "of no stated product")
            found[product] = found.get(product, Decimal(0)) + count
    if not found:
        return Finding(
            "cluster/nodes", Verdict.ABSENT, f"{len(nodes)} nodes, none of which offers {GPU}",
            "runs on a CPU are Estimated; for GPUs install NVIDIA's GPU operator or device plugin",
        )  # fmt: skip
    listed = ", ".join(f"{count} x {product}" for product, count in sorted(found.items()))
    return Finding("cluster/nodes", Verdict.OK, f"{listed}; -f FILE looks for those of a PruneJob")


def _class(item: HardwareClass, nodes: Sequence[JsonObject]) -> Finding:
    check, wanted = f"cluster/hardware/{item.name}", item.node_selector or {}
    matching = [node for node in nodes if wanted.items() <= _labels(node).items()]
    if not matching:
        shown = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items())) or "no selector"
        return Finding(
            check, Verdict.PROBLEM, f"none of {len(nodes)} nodes has the labels {shown}{_alternatives(wanted, nodes)}",
            "correct spec.hardware[].nodeSelector, or label a node",
        )  # fmt: skip
    untainted = [node for node in matching if not _repels(node, item.tolerations)]
    if not untainted:
        taint = _repels(matching[0], item.tolerations)
        return Finding(
            check, Verdict.PROBLEM, f"{len(matching)} nodes match, but each has a taint such as {taint}",
            "add a toleration to spec.hardware[].tolerations",
        )  # fmt: skip
    asked = {**(item.resources.limits or {}), **(item.resources.requests or {})}
    short: list[str] = []
    fitting = []
    for node in untainted:
        lacks = [
            f"{name} {_allocatable(node).get(name, '0')} of {amount}"
            for name, amount in asked.items()
            if quantity(_allocatable(node).get(name, "0")) < quantity(amount)
        ]
        short += lacks
        if not lacks:
            fitting.append(node)
    if not fitting:
        return Finding(
            check, Verdict.PROBLEM, f"{len(untainted)} nodes match and none is large enough: {short[0]}",
            "ask for less in spec.hardware[].resources, or add a larger node",
        )  # fmt: skip
    if len(fitting) < item.nodes:
        return Finding(
            check, Verdict.WARNING, f"{len(fitting)} nodes match, for {item.nodes} pods: several share a node",
            "correct spec.hardware[].nodes, or add nodes",
        )  # fmt: skip
    cut = [node for node in fitting if _labels(node).get(MIG, "none") not in ("none", "")]
    if GPU in asked and len(cut) == len(fitting):
        return Finding(
            check, Verdict.WARNING, f"the GPUs of all {len(fitting)} nodes may be cut into MIG instances ({MIG}="
            f"{_labels(cut[0])[MIG]}), for which NVML counts no energy",
            "select nodes with nvidia.com/mig.config: all-disabled",
        )  # fmt: skip
    return Finding(check, Verdict.OK, f"{len(fitting)} of {len(nodes)} nodes can take it")


def _alternatives(wanted: Mapping[str, str], nodes: Sequence[JsonObject]) -> str:
    """Say which values a label has, where the label is there and the value is not."""
    for key in wanted:
        values = sorted({_labels(node)[key] for node in nodes if key in _labels(node)})
        if values and wanted[key] not in values:
            return f"; {key} is {', '.join(values[:4])} here"
    return ""


def _repels(node: JsonObject, tolerations: Sequence[Toleration]) -> str:
    """Return the first taint that keeps a pod away, empty where none does."""
    for taint in node.get("spec", {}).get("taints") or ():
        if taint.get("effect") != "PreferNoSchedule" and not any(_tolerates(item, taint) for item in tolerations):
            return f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
    return ""


def _tolerates(toleration: Toleration, taint: JsonObject) -> bool:
    if toleration.effect and toleration.effect != taint.get("effect"):
        return False
    if toleration.key is None:
        return toleration.operator is TolerationOperator.EXISTS
    same = toleration.operator is TolerationOperator.EXISTS or (toleration.value or "") == taint.get("value", "")
    return toleration.key == taint["key"] and same


def _labels(node: JsonObject) -> dict[str, str]:
    return dict(node["metadata"].get("labels") or {})


def _allocatable(node: JsonObject) -> dict[str, str]:
    return dict(node.get("status", {}).get("allocatable") or {})
