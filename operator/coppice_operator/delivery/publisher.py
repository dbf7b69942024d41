"""Changes on their way: taken from the plan's actions, carried out in threads, outcomes kept for the next pass.

Outcomes live in memory only. After a restart the planner asks again, and finds what is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from coppice_api.modelrollout import GitState
from coppice_operator.delivery.change import Change, Outcome
from coppice_operator.delivery.credentials import NOBODY, Credentials, read_secret
from coppice_operator.delivery.errors import CredentialsError, DeliveryError
from coppice_operator.delivery.hosts import hosts
from coppice_operator.kube import Kube
from coppice_operator.logs import about
from coppice_operator.queue import Key
from coppice_operator.secret import SecretError, fetch

MAX_OUTCOMES = 1000
WORKERS = 4
"""At most so many repositories at once: a server that hangs holds up one of them."""
_log = logging.getLogger(__name__)


def bring(change: Change, credentials: Credentials, now: Callable[[], datetime]) -> Outcome:
    """Bring one change to its branch; blocks. Git, SSH and YAML are loaded by the first, in its thread."""
    from coppice_operator.delivery.commit import bring as bring_there

    return bring_there(change, credentials, now)


class Publisher:
    """Carries changes out, one at a time for each rollout.

    Args:
        kube: For the Secrets.
        done: Told the namespace and name of a rollout whose change has an outcome.
        now: The time, UTC.
        bring: Brings one change to its branch; blocks.
    """

    def __init__(
        self,
        kube: Kube,
        done: Callable[[str, str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        bring: Callable[[Change, Credentials, Callable[[], datetime]], Outcome] = bring,
    ) -> None:
        self._kube, self._done, self._now, self._bring_there = kube, done, now, bring
        self._outcomes: dict[str, Outcome] = {}
        self._under_way: dict[str, str] = {}
        self._waiting: asyncio.Queue[Change] = asyncio.Queue()

    def of(self, uid: str) -> Outcome | None:
        """Return what came of a rollout's last change."""
        return self._outcomes.get(uid)

    def submit(self, change: Change) -> None:
        """Have a change carried out, unless this rollout's last one is still under way."""
        if change.uid not in self._under_way:
            self._under_way[change.uid] = change.key
            self._waiting.put_nowait(change)

    async def run(self) -> None:
        """Work until cancelled; may be run again after that.

        A thread that is at work when we are cancelled ends by itself within its time limits. What it pushes then is
        found by whoever looks next.
        """
        self._waiting, self._under_way = asyncio.Queue(), {}
        threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="git")
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(WORKERS):
                    tasks.create_task(self._work(threads), name=f"git-{number}")
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _work(self, threads: ThreadPoolExecutor) -> None:
        while True:
            change = await self._waiting.get()
            key = Key("ModelRollout", change.namespace, change.rollout)
            try:
                outcome = await self._bring(change, threads)
            except asyncio.CancelledError:
                raise
            except Exception:
                # Not the traceback: values of its frames could hold a credential.
                _log.error("a change could not be carried out: a defect", extra={**about(key), "reason": "Defect"})
                outcome = Outcome(change.key, GitState.FAILED, self._now(), message="a defect in the operator")
            if outcome.state is GitState.FAILED:
                _log.warning("%s", outcome.message, extra={**about(key), "reason": "GitFailed"})
            self._outcomes.pop(change.uid, None)
            self._outcomes[change.uid] = outcome
            if len(self._outcomes) > MAX_OUTCOMES:
                # The oldest: of a rollout that has ended, or that finds its change again.
                del self._outcomes[next(iter(self._outcomes))]
            self._under_way.pop(change.uid, None)
            self._done(change.namespace, change.rollout)

    async def _bring(self, change: Change, threads: ThreadPoolExecutor) -> Outcome:
        try:
            credentials = await self._credentials(change)
        except DeliveryError as error:
            return Outcome(change.key, GitState.FAILED, self._now(), branch=change.branch, message=str(error)[:1024])
        return await asyncio.get_running_loop().run_in_executor(
            threads, self._bring_there, change, credentials, self._now
        )

    async def _credentials(self, change: Change) -> Credentials:
        name = change.git.credentials_secret_name
        if name is None:
            return NOBODY
        try:
            secret = await fetch(self._kube, change.namespace, name, "strategy.git.credentialsSecretName")
        except SecretError as error:
            raise CredentialsError(str(error)) from error
        return read_secret(secret, hosts(change.git))
