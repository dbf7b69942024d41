"""Reads our own resources, also while the CRD is newer than this operator.

An upgrade brings the CRDs first. From then on the API server fills defaults of fields that this version does not know
into every object it shows, old ones included. Those are no wish of anybody's: an object that was decided about at this
generation is read without them, so its run goes on and its status stays. A new generation is a person's: what it sets
must be known, or it would be ignored in silence.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from pydantic import ValidationError

from coppice_api.constants import Reason
from coppice_api.modelrollout import ModelRollout
from coppice_api.prunejob import PruneJob
from coppice_operator.plan import JsonObject

Resource = TypeVar("Resource", PruneJob, ModelRollout)


def read(kind: type[Resource], item: JsonObject) -> Resource:
    """Return an object as its type.

    Raises:
        pydantic.ValidationError: If this version cannot read it.
    """
    try:
        return kind.model_validate(item)
    except ValidationError as error:
        unknown = [problem["loc"] for problem in error.errors() if problem["type"] == "extra_forbidden"]
        status, generation = item.get("status") or {}, (item.get("metadata") or {}).get("generation")
        seen = generation is not None and status.get("observedGeneration") == generation
        if not seen or status.get("state") == Reason.UNSUPPORTED or len(unknown) != error.error_count():
            raise
    return kind.model_validate(_without(item, unknown))


def _without(item: JsonObject, fields: list[tuple[int | str, ...]]) -> JsonObject:
    left = copy.deepcopy(item)
    for *parents, last in fields:
        node = left
        for part in parents:
            node = node[part]  # type: ignore[index]
        del node[last]  # type: ignore[arg-type]
    return left
