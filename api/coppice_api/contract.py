"""From a PruneJob to the RunConfig of one hardware class: the same for the operator's Job and for a laptop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from coppice_api.constants import CLAIMS_DIRECTORY
from coppice_api.prunejob import HardwareClass, PruneJobSpec
from coppice_api.run import RunConfig

DIGEST_SCHEME = "v1"
_DIGEST_LENGTH = 16


def spec_digest(spec: PruneJobSpec, hardware: HardwareClass) -> str:
    """Return `v1:<hex>` over everything that defines a run.

    Defaults are part of it: a version with another default makes another run.
    """
    defining = {
        "model": spec.model.to_dict(),
        "dataset": spec.dataset.to_dict(),
        "objective": spec.objective.to_dict(),
        "algorithm": spec.algorithm.to_dict(),
        "measurement": spec.measurement.to_dict(),
        "output": spec.output.to_dict(),
        "hardware": hardware.to_dict(),
    }
    text = json.dumps(defining, sort_keys=True, separators=(",", ":"))
    return f"{DIGEST_SCHEME}:{hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]}"


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
