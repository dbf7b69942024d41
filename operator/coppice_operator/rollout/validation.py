"""What is refused before any target is looked at: things this version cannot do, and claims that are too weak."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from coppice_api.base import Provenance
from coppice_api.constants import Reason
from coppice_api.modelrollout import ModelRolloutSpec, RolloutModel, TargetKind

_RANK = {Provenance.SIMULATED: 0, Provenance.ESTIMATED: 1, Provenance.MEASURED: 2}


@dataclass(frozen=True)
class Refusal:
    """Why nothing is touched."""

    reason: Reason
    message: str


def refusal(spec: ModelRolloutSpec) -> Refusal | None:
    """Return why the rollout cannot begin, or None."""
    return _unsupported(spec) or next(filter(None, (_weak_claim(spec, model) for model in spec.models)), None)


def _unsupported(spec: ModelRolloutSpec) -> Refusal | None:
    for index, target in enumerate(spec.targets):
        if target.inject.storage_uri:
            return Refusal(
                Reason.UNSUPPORTED,
                f"targets[{index}].inject.storageUri is true, which this version cannot do yet: use inject.env "
                "on a Deployment",
            )
        if target.kind is not TargetKind.DEPLOYMENT:
            return Refusal(
                Reason.UNSUPPORTED,
                f"targets[{index}].kind is {target.kind}, which this version cannot roll out to yet: use Deployment",
            )
    return None


def _weak_claim(spec: ModelRolloutSpec, model: RolloutModel) -> Refusal | None:
    claim = model.claim
    # A model nobody claims anything for (the dense one, on its way back) ships on the analysis alone.
    if claim is None:
        return None
    if _RANK[claim.provenance] < _RANK[Provenance(spec.minimum_provenance)]:
        return Refusal(
            Reason.PROVENANCE_TOO_LOW,
            f"models[{model.name}].claim.provenance is {claim.provenance}, but minimumProvenance is "
            f"{spec.minimum_provenance}: measure the model on hardware with an energy counter, or lower the minimum",
        )
    low = claim.energy_reduction_low_percent or claim.energy_reduction_percent
    if low is not None and Decimal(low) <= 0:
        return Refusal(
            Reason.PROVENANCE_TOO_LOW,
            f"models[{model.name}].claim says that at least {low} % energy is saved, which is nothing: "
            "its interval must lie above 0",
        )
    return None
