"""Whether a target's pods run on the nodes that its model was made for, by what its pod template asks of nodes.

A model is pruned for one hardware class: widths are rounded to that hardware's steps and joules are measured there. On
other nodes its claim says nothing. A template that asks for nothing may run anywhere, so it does not hold either.
"""

from __future__ import annotations

from coppice_api.constants import ANNOTATION_ALLOW_HARDWARE
from coppice_api.modelrollout import RolloutModel
from coppice_operator.plan import JsonObject


def hardware_mismatch(model: RolloutModel, workload: JsonObject) -> str | None:
    """Return how the nodes of a target are not those of a model, or None."""
    annotations = workload.get("metadata", {}).get("annotations") or {}
    if not model.node_selector or annotations.get(ANNOTATION_ALLOW_HARDWARE) == "true":
        return None
    pod = _pod_spec(workload)
    own: JsonObject = pod.get("nodeSelector") or {}
    for key, want in sorted(model.node_selector.items()):
        if own.get(key) == want or _affinity_holds(pod, key, want):
            continue
        if key in own:
            return f"its pods run on nodes with {key}={own[key]}, and model {model.name} was made for {want}"
        return f"its pods may run on other nodes than those with {key}={want}, which model {model.name} was made for"
    return None


def _pod_spec(workload: JsonObject) -> JsonObject:
    spec = workload.get("spec") or {}
    return (spec.get("template") or {}).get("spec") or spec.get("predictor") or {}


def _affinity_holds(pod: JsonObject, key: str, want: str) -> bool:
    """Return whether required node affinity leaves no other value: any term may hold, so each must say so."""
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    return bool(terms) and all(
        any(
            wish.get("key") == key and wish.get("operator") == "In" and wish.get("values") == [want]
            for wish in term.get("matchExpressions") or ()
        )
        for term in terms
    )
