"""From a PruneJob to the RunConfig of one hardware class: the same for the operator's Job and for a laptop.

The spec digest names a run: its Job, its directory of artifacts and checkpoints. So a digest, once given, must come out
again from every later version, or the next operator would start every run a second time. Two rules keep it so:

- Scheme v1 is frozen: the fields that v1alpha1 began with go in with whatever they hold, defaults included.
- A field that joins later stands in LATER_FIELDS with its default, and goes in only where it holds another value. That
  default may never change: an object older than the field is read with it, and would be read as another run.

tests/unit/contract holds digests that were given, and fails for a field that is in neither list. Another way of hashing
would be scheme v2, for runs that begin under it; those named `v1:` keep their name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from coppice_api.constants import CLAIMS_DIRECTORY
from coppice_api.prunejob import HardwareClass, PruneJobSpec
from coppice_api.run import RunConfig

DIGEST_SCHEME = "v1"
LATER_FIELDS: dict[str, Any] = {}
"""Path of a field that joined v1alpha1 after its beginning (`algorithm.fineTune.warmupSteps`; lists need no index): its
default. One whose default is absence needs no entry: absent fields are never part."""
_DIGEST_LENGTH = 16
_DEFINING = {"model", "dataset", "objective", "algorithm", "measurement", "output"}
"""Fields of a spec that define a run, besides its hardware class."""


def spec_digest(spec: PruneJobSpec, hardware: HardwareClass) -> str:
    """Return `v1:<hex>` over everything that defines a run; the same from every version that reads the same spec."""
    defining = {**spec.to_dict(include=_DEFINING), "hardware": hardware.to_dict()}
    kept = _without_later(defining, "") if LATER_FIELDS else defining
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return f"{DIGEST_SCHEME}:{hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]}"


def _without_later(value: Any, path: str) -> Any:
    """Return a value without the later fields that hold their default, the innermost first."""
    if isinstance(value, list):
        return [_without_later(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        field = f"{path}.{key}".removeprefix(".")
        left = _without_later(item, field)
        if field not in LATER_FIELDS or left != LATER_FIELDS[field]:
            kept[key] = left
    return kept


def claims(spec: PruneJobSpec) -> tuple[str, ...]:
    """Return the persistent volume claims that the URIs of a spec name, each once, in order."""
    uris = (spec.model.uri, spec.dataset.uri, spec.output.uri)
    found = {uri.removeprefix("pvc://").partition("/")[0] for uri in uris if uri.startswith("pvc://")}
    return tuple(sorted(found))


def pod_claim_mounts(spec: PruneJobSpec) -> dict[str, str]:
    """Return where each claim of a spec is mounted in the run's pod."""
    return {claim: f"{CLAIMS_DIRECTORY}/{claim}" for claim in claims(spec)}


def run_config(
    spec: PruneJobSpec,
    hardware: HardwareClass,
    *,
    namespace: str,
    name: str,
    claim_mounts: Mapping[str, str],
) -> RunConfig:
    """Return the run contract of one hardware class, with the pod's defaults for everything else.

    Args:
        spec: Of the PruneJob.
        hardware: One of its classes.
        namespace: Of the PruneJob.
        name: Of the PruneJob.
        claim_mounts: Directory of each claim, where the run will be.
    """
    digest = spec_digest(spec, hardware)
    return RunConfig(
        namespace=namespace,
        name=name,
        hardware=hardware.name,
        spec_digest=digest,
        model=spec.model,
        dataset=spec.dataset,
        objective=spec.objective,
        algorithm=spec.algorithm,
        measurement=spec.measurement,
        # A colon in a path is trouble on some storage.
        artifacts_uri="/".join((spec.output.uri.rstrip("/"), namespace, name, digest.replace(":", "-"), hardware.name)),
        claim_mounts=dict(claim_mounts),
    )
