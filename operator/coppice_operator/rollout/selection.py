"""From spec.targets to concrete workloads: by name or by label, ordered by name, each once.

The set is chosen anew in every pass until the first wave begins and stands in status.targets then: a workload that
starts to match later joins the last wave (joining.py), and one that disappears fails the rollout.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from coppice_api.constants import Reason
from coppice_api.modelrollout import (
    LabelSelector,
    RolloutModel,
    SelectorOperator,
    SelectorRequirement,
    Target,
    TargetKey,
    TargetKind,
    TargetState,
    TargetStatus,
)
from coppice_operator.rollout.kinds import FieldUnreadableError, Where, Workload

MAX_TARGETS = 1000
"""status.targets holds no more."""


@dataclass(frozen=True)
class Chosen:
    """One concrete target."""

    key: TargetKey
    where: Where
    model: str

    def in_wave(self, wave: int) -> TargetStatus:
        """Return it as a target that waits for its wave."""
        return TargetStatus(
            kind=self.key.kind,
            name=self.key.name,
            cluster=self.key.cluster,
            container=self.where.container,
            model=self.model,
            state=TargetState.PENDING,
            wave=wave,
        )


class SelectionError(Exception):
    """The targets cannot be made out; the message is a sentence for the user."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def select(
    targets: Sequence[Target],
    models: Sequence[RolloutModel],
    workloads: Mapping[TargetKey, Workload],
    down: Container[str | None] = (),
    missing: Mapping[TargetKind, str] | None = None,
) -> tuple[Chosen, ...]:
    """Return the chosen workloads, ordered by name.

    Args:
        targets: spec.targets.
        models: spec.models.
        workloads: All of the namespace.
        down: Clusters that nobody can look into now: what is chosen there is found out when they are back.
        missing: Kinds that the operator's own cluster has not, and why.

    Raises:
        SelectionError: TargetNotFound, TargetInvalid or KindUnavailable.
    """
    chosen: dict[TargetKey, tuple[int, Chosen]] = {}
    for index, target in enumerate(targets):
        model = _model_name(target, models, index)
        if target.cluster in down:
            continue
        if target.cluster is None and (absence := (missing or {}).get(target.kind)):
            raise SelectionError(Reason.KIND_UNAVAILABLE, f"targets[{index}]: {absence}")
        for key in _keys(target, workloads, index):
            one = _choose(key, workloads[key], target, model)
            earlier, other = chosen.setdefault(key, (index, one))
            if other != one:
                raise SelectionError(
                    Reason.TARGET_INVALID,
                    f"targets[{earlier}] and targets[{index}] both choose {key}, with different "
                    "container, inject or model: leave one of them",
                )
    if len(chosen) > MAX_TARGETS:
        raise SelectionError(
            Reason.TARGET_INVALID,
            f"targets[] choose {len(chosen)} objects, but one rollout takes at most {MAX_TARGETS}: "
            "divide them between several rollouts",
        )
    return tuple(chosen[key][1] for key in sorted(chosen))


def chooses(target: Target, key: TargetKey, workload: Workload) -> bool:
    """Return whether an entry of spec.targets chooses this workload."""
    if (key.kind, key.cluster) != (target.kind, target.cluster):
        return False
    if target.name is not None:
        return key.name == target.name
    return target.selector is not None and matches(target.selector, workload.body["metadata"].get("labels") or {})


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Return whether labels satisfy a selector; an empty selector matches nothing here."""
    if not selector.match_labels and not selector.match_expressions:
        return False
    return all(labels.get(key) == value for key, value in (selector.match_labels or {}).items()) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions
    )


def _holds(requirement: SelectorRequirement, labels: Mapping[str, str]) -> bool:
    match requirement.operator:
        case SelectorOperator.IN:
            return labels.get(requirement.key) in requirement.values
        case SelectorOperator.NOT_IN:
            # As Kubernetes has it: an absent label is in no list.
            return labels.get(requirement.key) not in requirement.values
        case SelectorOperator.EXISTS:
            return requirement.key in labels
        case SelectorOperator.DOES_NOT_EXIST:
            return requirement.key not in labels


def _keys(target: Target, workloads: Mapping[TargetKey, Workload], index: int) -> list[TargetKey]:
    found = [key for key, workload in workloads.items() if chooses(target, key, workload)]
    if found:
        return sorted(found)
    where = f" of cluster {target.cluster}" if target.cluster else ""
    if target.name is not None:
        raise SelectionError(
            Reason.TARGET_NOT_FOUND,
            f"targets[{index}]: there is no {target.kind} {target.name} in the rollout's namespace{where}",
        )
    raise SelectionError(
        Reason.TARGET_NOT_FOUND,
        f"targets[{index}]: the selector finds no {target.kind} in the rollout's namespace{where}",
    )


def _model_name(target: Target, models: Sequence[RolloutModel], index: int) -> str:
    names = [model.name for model in models]
    if target.model is None and len(names) == 1:
        return names[0]
    if target.model is None:
        raise SelectionError(
            Reason.TARGET_INVALID, f"targets[{index}].model is missing; there are several: {', '.join(names)}"
        )
    if target.model not in names:
        raise SelectionError(
            Reason.TARGET_INVALID, f"targets[{index}].model is {target.model}, but models[] has: {', '.join(names)}"
        )
    return target.model


def _choose(key: TargetKey, workload: Workload, target: Target, model: str) -> Chosen:
    try:
        where = workload.where(target)
        workload.held(where)
    except FieldUnreadableError as error:
        raise SelectionError(Reason.TARGET_INVALID, str(error)) from error
    return Chosen(key, where, model)
