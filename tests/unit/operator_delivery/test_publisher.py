"""The publisher: one change a rollout at a time, in threads, and nothing of a Secret in what it says."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from coppice_api.modelrollout import GitDelivery, GitState
from coppice_operator.delivery.change import Change, Outcome
from coppice_operator.delivery.credentials import Credentials
from coppice_operator.delivery.publisher import WORKERS, Publisher
from coppice_operator.kube import Kube, KubeError

CANARY = "canary-token-4711"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
SECRET = {
    "metadata": {"name": "fleet-git", "annotations": {"coppice.dev/git-host": "git.example.com"}},
    "data": {"username": "cm9ib3Q=", "password": base64.b64encode(CANARY.encode()).decode()},
}


class Api:
    """Gives one Secret, or refuses."""

    def __init__(self, answer: dict[str, Any] | KubeError) -> None:
        self._answer = answer

    async def get(self, path: str) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/fleet/secrets/fleet-git"
        if isinstance(self._answer, KubeError):
            raise self._answer
        return self._answer


def change(uid: str = "uid-1", **git: Any) -> Change:
    fields = {"repository": "https://git.example.com/r", "path": "kustomization.yaml", **git}
    fields.setdefault("credentialsSecretName", "fleet-git")
    return Change("fleet", "digits", uid, 1, GitDelivery.model_validate(fields), (), "m")


def committed(change: Change, credentials: Credentials, now: Callable[[], datetime]) -> Outcome:
    return Outcome(change.key, GitState.COMMITTED, now())


async def outcome_of(
    answer: dict[str, Any] | KubeError = SECRET, bring: Any = committed, wanted: Change | None = None
) -> Outcome:
    done = asyncio.Event()
    publisher = Publisher(cast(Kube, Api(answer)), lambda *_: done.set(), lambda: NOW, bring=bring)
    task = asyncio.create_task(publisher.run())
    await asyncio.sleep(0)
    publisher.submit(wanted or change())
    await asyncio.wait_for(done.wait(), 10)
    task.cancel()
    await asyncio.wait([task])
    outcome = publisher.of("uid-1")
    assert outcome is not None
    return outcome


async def test_a_change_is_brought_with_what_the_secret_holds() -> None:
    given: list[Credentials] = []

    def bring(change: Change, credentials: Credentials, now: Callable[[], datetime]) -> Outcome:
        given.append(credentials)
        return committed(change, credentials, now)

    assert (await outcome_of(bring=bring)).state is GitState.COMMITTED
    assert (given[0].username, given[0].password) == ("robot", CANARY)


@pytest.mark.parametrize(
    ("answer", "want"),
    [
        (KubeError(404, "x"), "there is no Secret fleet-git"),
        (KubeError(403, "x"), "the operator may not read Secret fleet-git: give its service account `get`"),
        (KubeError(0, "x"), "cannot be read now: no answer"),
        ({**SECRET, "metadata": {"name": "fleet-git"}}, "annotate it with coppice.dev/git-host: git.example.com"),
    ],
    ids=["missing", "forbidden", "no answer", "not for this host"],
)
async def test_a_secret_that_cannot_be_used_is_told_with_the_way_out(answer: Any, want: str) -> None:
    outcome = await outcome_of(answer)
    assert outcome.state is GitState.FAILED
    assert want in str(outcome.message)
    assert CANARY not in str(outcome)


async def test_a_defect_is_told_without_its_values(caplog: pytest.LogCaptureFixture) -> None:
    def broken(change: Change, credentials: Credentials, now: Callable[[], datetime]) -> Outcome:
        raise RuntimeError(f"with {credentials.password}")

    with caplog.at_level(logging.DEBUG):
        outcome = await outcome_of(bring=broken)
    assert outcome.state is GitState.FAILED
    assert CANARY not in caplog.text + str(outcome)


async def test_a_rollout_has_one_change_under_way_and_a_server_that_hangs_holds_up_no_other() -> None:
    release, running = threading.Event(), []
    finished = asyncio.Event()

    def bring(change: Change, credentials: Credentials, now: Callable[[], datetime]) -> Outcome:
        running.append(change.uid)
        if change.uid.startswith("slow"):
            assert release.wait(20)
        return committed(change, credentials, now)

    loop = asyncio.get_running_loop()
    publisher = Publisher(
        cast(Kube, Api(SECRET)), lambda *_: loop.call_soon_threadsafe(finished.set), lambda: NOW, bring=bring
    )
    task = asyncio.create_task(publisher.run())
    await asyncio.sleep(0)
    slow = change("slow")
    publisher.submit(slow)
    publisher.submit(dataclasses.replace(slow, wave=2))
    publisher.submit(change("uid-1"))
    assert WORKERS > 1
    await asyncio.wait_for(finished.wait(), 10)
    assert publisher.of("uid-1") is not None
    assert publisher.of("slow") is None
    assert sorted(running) == ["slow", "uid-1"]
    release.set()
    task.cancel()
    await asyncio.wait([task])
