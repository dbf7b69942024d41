"""A question to Prometheus and its answer, as values: what `analysis.py` asks and `verdicts.py` judges."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from coppice_api.modelrollout import TargetKey


class Purpose(StrEnum):
    """Why a query is asked."""

    BASELINE = "baseline"
    """What the target gave before it was touched."""
    CURRENT = "current"
    """What the target gives with the new model."""
    REST = "rest"
    """What the targets that still have the model they had give at the same time."""


class Silence(StrEnum):
    """Why there is no number, by who can do something about it."""

    EMPTY = "empty"
    """Nothing was measured: no series, or NaN."""
    ERROR = "error"
    """Prometheus did not answer, or not as itself; it may do so later."""
    REFUSED = "refused"
    """The query is at fault, and stays so until somebody mends it."""


@dataclass(frozen=True)
class QueryKey:
    """Which check on which target, and why."""

    check: str
    target: TargetKey
    purpose: Purpose


@dataclass(frozen=True)
class Query:
    """One instant query."""

    key: QueryKey
    address: str
    """Base URL of Prometheus, without /api and without a slash at its end."""
    promql: str
    secret: tuple[str, str] | None = None
    """Namespace and name of the Secret with the credentials for that address."""
    timeout_seconds: float = 10


@dataclass(frozen=True)
class Answer:
    """A number, or why there is none. Exactly one of the two is set."""

    value: float | None
    error: str | None = None
    silence: Silence = Silence.EMPTY
    """With an error: what kind of silence it is."""
