"""What a fleet has served: the way to any earlier digest.

A rollout is one revision. Each keeps those before it in its own status, so that they outlive the ModelRollouts that
brought them.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from coppice_api.modelrollout import Revision, RolloutModel, TargetKey, TargetStatus
from coppice_operator.plan import JsonObject
from coppice_operator.rollout.claims import frozen_targets
from coppice_operator.rollout.draft import Draft, stamp

_DIGEST = "#sha256="


def revisions(draft: Draft) -> list[Revision]:
    """Return the history of a rollout that has just come to its end, itself first."""
    before = earlier(draft.observation.siblings, [target.key for target in draft.targets])
    own = Revision(
        number=1 + max((revision.number for revision in before), default=0),
        rollout=draft.rollout.metadata["name"],
        models=list(draft.spec.models),
        completed_time=stamp(draft),
    )
    return merged([own, *before, *_found(draft.targets, draft.spec.models)])[: draft.spec.revision_history_limit]


def earlier(rollouts: Iterable[JsonObject], targets: Iterable[TargetKey]) -> list[Revision]:
    """Return what the histories of rollouts with one of these targets say."""
    wanted = set(targets)
    said: list[Revision] = []
    for rollout in rollouts:
        if wanted & frozen_targets(rollout):
            for entry in rollout["status"].get("history") or ():
                try:
                    said.append(Revision.model_validate(entry))
                except ValidationError:
                    # Of another version, whose models this one may not know how to ship.
                    continue
    return said


def merged(revisions: Iterable[Revision]) -> list[Revision]:
    """Return revisions newest first, those with the same models once."""
    kept: dict[tuple[str, ...], Revision] = {}
    for revision in sorted(revisions, key=lambda one: (one.number, one.completed_time or ""), reverse=True):
        kept.setdefault(digests(revision), revision)
    return list(kept.values())


def digests(revision: Revision) -> tuple[str, ...]:
    """Return the digests of a revision's models, in order of the models' names."""
    return tuple(model.sha256 for model in sorted(revision.models, key=lambda model: model.name))


def _found(targets: Iterable[TargetStatus], models: list[RolloutModel]) -> list[Revision]:
    """Return what was on the targets before anybody knew, where it names its digest and one model is enough."""
    if len(models) > 1:
        return []
    values = sorted({target.previous_value or "" for target in targets})
    known = []
    for uri, _, digest in (value.partition(_DIGEST) for value in values):
        try:
            known.append(Revision(models=[RolloutModel(name=models[0].name, uri=uri, sha256=digest)]))
        except ValidationError:
            # Without a digest nothing can be shipped again; `coppice rollout undo` gives it back all the same.
            continue
    return known
