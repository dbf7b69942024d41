"""Objects with good defaults, so that a test shows only what matters to it."""

from __future__ import annotations

import copy
from typing import Any

DIGEST = "a" * 64

_PRUNEJOB: dict[str, Any] = {
    "apiVersion": "coppice.dev/v1alpha1",
    "kind": "PruneJob",
    "metadata": {"name": "digits"},
    "spec": {
        "model": {"uri": "pvc://fleet-models/digits/dense"},
        "dataset": {"uri": "builtin://digits"},
        "objective": {"energyReductionPercent": 60},
        "output": {"uri": "pvc://fleet-models/runs"},
    },
}
_ROLLOUT: dict[str, Any] = {
    "apiVersion": "coppice.dev/v1alpha1",
    "kind": "ModelRollout",
    "metadata": {"name": "digits"},
    "spec": {
        "models": [{"name": "default", "uri": "pvc://fleet-models/runs/pruned", "sha256": DIGEST}],
        "targets": [{"name": "digits-a"}],
    },
}


def with_values(document: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return a copy with dotted paths set; a value of None removes the field."""
    result = copy.deepcopy(document)
    for path, value in values.items():
        *parents, last = path.split(".")
        node: Any = result
        for part in parents:
            node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
        if value is None:
            node.pop(last, None)
        elif last.isdigit():
            node[int(last)] = value
        else:
            node[last] = value
    return result


def prune_job(**values: Any) -> dict[str, Any]:
    """A small valid PruneJob; keywords are dotted paths under spec with `__` for a dot."""
    return with_values(_PRUNEJOB, {f"spec.{key.replace('__', '.')}": value for key, value in values.items()})


def model_rollout(**values: Any) -> dict[str, Any]:
    """A small valid ModelRollout; keywords as in `prune_job`."""
    return with_values(_ROLLOUT, {f"spec.{key.replace('__', '.')}": value for key, value in values.items()})
