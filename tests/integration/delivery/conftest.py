"""A fleet's repository behind git's own http-backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from coppice_api.modelrollout import GitDelivery
from coppice_operator.delivery.change import Change, Edit, Outcome
from coppice_operator.delivery.commit import bring
from coppice_operator.delivery.credentials import Credentials
from tests.git_servers.https import git_https
from tests.git_servers.repository import COMPONENT, FleetRepository

USER, TOKEN = "robot", "canary-token-4711"
PATH = "models/kustomization.yaml"
VALUES = "# The fleet's.\nmodels:\n  a: {uri: pvc://old}  # one\n  b: {uri: 'pvc://old'}\n"


def now() -> datetime:
    return datetime.now(UTC)


def edit(name: str = "a", value: str = "pvc://new#sha256=1") -> Edit:
    return Edit("Deployment", name, "server", "MODEL_URI", value, "pvc://old")


def change(repository: str, *names: str, uid: str = "uid-1", wave: int = 1, back: bool = False, **git: Any) -> Change:
    delivery = GitDelivery.model_validate({"repository": repository, "path": PATH, **git})
    edits = tuple(edit(name) for name in names or ("a",))
    return Change("fleet", "digits", uid, wave, delivery, edits, "Roll fleet/digits out\n\nNumbers", back)


@dataclass
class Fleet:
    """A repository, its server, and who may use it."""

    repository: FleetRepository
    url: str
    credentials: Credentials
    root: Path
    before_push: list[Callable[[], object]] = field(default_factory=list)
    """Taken one after the other, each before one push."""

    def bring(self, change: Change, credentials: Credentials | None = None) -> Outcome:
        return bring(change, credentials or self.credentials, now)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    repository = FleetRepository(tmp_path / "fleet.git", {PATH: COMPONENT, "values.yaml": VALUES})
    pushes: list[Callable[[], object]] = []

    def before_push() -> None:
        if pushes:
            pushes.pop(0)()

    with git_https(tmp_path, USER, TOKEN, before_push=before_push) as (address, certificate):
        credentials = Credentials(USER, TOKEN, certificate)
        yield Fleet(repository, f"{address}/fleet.git", credentials, tmp_path, pushes)
