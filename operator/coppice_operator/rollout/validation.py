"""What is refused before any target is looked at: things this version cannot do, and claims that do not hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from coppice_api.base import Provenance
from coppice_api.constants import Reason
from coppice_api.modelrollout import GIT_TAKES_NO_CLUSTER, Claim, Delivery, ModelRolloutSpec, RolloutModel
from coppice_operator.plan import JsonObject

_RANK = {Provenance.SIMULATED: 0, Provenance.ESTIMATED: 1, Provenance.MEASURED: 2}


@dataclass(frozen=True)
class Refusal:
    """Why nothing is touched."""

    reason: Reason
    message: str


def refusal(spec: ModelRolloutSpec) -> Refusal | None:
    """Return why the rollout cannot begin, or None."""
    checks = (_other_digest, _low_provenance, _weak_claim)
    refused = (check(spec, model) for model in spec.models for check in checks)
    return _unsupported(spec) or next(filter(None, refused), None)


def other_result(spec: ModelRolloutSpec, prunejobs: Iterable[JsonObject]) -> Refusal | None:
    """Return why a model is not the one that a PruneJob says it left at that URI, or None.

    Asked before the first wave only: a later run may leave another model there.
    """
    results: dict[str, dict[str, str]] = {}
    for prunejob in prunejobs:
        for variant in (prunejob.get("status") or {}).get("variants") or ():
            artifact = variant.get("artifact") or {}
            if artifact:
                results.setdefault(artifact["uri"], {})[artifact["sha256"]] = prunejob["metadata"]["name"]
    for model in spec.models:
        left = results.get(model.uri, {})
        if left and model.sha256 not in left:
            digest, name = next(iter(left.items()))
            return Refusal(
                Reason.DIGEST_MISMATCH,
                f"models[{model.name}].sha256 is {model.sha256[:12]}..., but PruneJob {name} left {digest[:12]}... at "
                f"{model.uri}: take the digest of its status",
            )
    return None


def _unsupported(spec: ModelRolloutSpec) -> Refusal | None:
    if spec.strategy.delivery is Delivery.GIT and any(target.cluster for target in spec.targets):
        # Of one that was stored before the API server refused it.
        return Refusal(Reason.UNSUPPORTED, GIT_TAKES_NO_CLUSTER)
    return None


def _other_digest(spec: ModelRolloutSpec, model: RolloutModel) -> Refusal | None:
    fragment = model.uri.partition("#")[2]
    named = {
        "its URI names": fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None,
        "its claim is of": model.claim.sha256 if model.claim else None,
    }
    for what, digest in named.items():
        if digest is not None and digest != model.sha256:
            return Refusal(
                Reason.DIGEST_MISMATCH,
                f"models[{model.name}].sha256 is {model.sha256[:12]}..., but {what} {digest[:12]}...: nothing was "
                "measured of what would be shipped",
            )
    return None


def _low_provenance(spec: ModelRolloutSpec, model: RolloutModel) -> Refusal | None:
    claim = model.claim
    # A model nobody claims anything for (the dense one, on its way back) ships on the analysis alone.
    if claim is None or _RANK[claim.provenance] >= _RANK[Provenance(spec.minimum_provenance)]:
        return None
    return Refusal(
        Reason.PROVENANCE_TOO_LOW,
        f"models[{model.name}].claim.provenance is {claim.provenance}, but minimumProvenance is "
        f"{spec.minimum_provenance}: measure the model on hardware with an energy counter, or lower the minimum",
    )


def _weak_claim(spec: ModelRolloutSpec, model: RolloutModel) -> Refusal | None:
    claim, least = model.claim, spec.minimum_claim
    if claim is None:
        if least is None:
            return None
        return _too_weak(model, "is missing, and minimumClaim asks for one")
    low = claim.energy_reduction_low_percent or claim.energy_reduction_percent
    want = least.energy_reduction_percent if least else None
    if want is not None and low is None:
        return _too_weak(model, "says nothing of energy, and minimumClaim.energyReductionPercent does")
    if low is not None and Decimal(low) <= 0:
        return _too_weak(
            model, f"says that at least {low} % energy is saved, which is nothing: its interval must lie above 0"
        )
    if want is not None and low is not None and Decimal(low) < Decimal(want):
        return _too_weak(
            model, f"says that at least {low} % energy is saved, and minimumClaim.energyReductionPercent is {want}"
        )
    return _lost_accuracy(model, claim, least.max_accuracy_drop_points if least else None)


def _lost_accuracy(model: RolloutModel, claim: Claim, most: str | None) -> Refusal | None:
    if most is None:
        return None
    if claim.accuracy_percent is None or claim.dense_accuracy_percent is None:
        return _too_weak(model, "does not say what accuracy was lost, and minimumClaim.maxAccuracyDropPoints asks")
    lost = Decimal(claim.dense_accuracy_percent) - Decimal(claim.accuracy_percent)
    if lost > Decimal(most):
        return _too_weak(model, f"says that {lost} points of accuracy are lost, and minimumClaim allows {most}")
    return None


def _too_weak(model: RolloutModel, what: str) -> Refusal:
    return Refusal(Reason.CLAIM_TOO_WEAK, f"models[{model.name}].claim {what}")
