"""Which of several replicas works: a Lease, as Kubernetes' own controllers hold one.

    campaign -> (lease is free or has run out) -> lead: renew every fifth -> (not renewed for two thirds) -> campaign

Only a leader's own monotonic clock says how long it may write: from the moment it *sent* the last renewal that the API
server took, for two thirds of the lease. Another replica counts the whole lease from the moment it *saw* that renewal,
which is later. So one stops before the other may begin, whatever the wall clocks show, and a third of the lease is left
for what was on its way. `kube.py` asks `seconds_left` right before each write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coppice_operator.kube import Kube, KubeError, collection_path, object_path
from coppice_operator.plan import JsonObject
from coppice_operator.tasks import cancel

_API_VERSION = "coordination.k8s.io/v1"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_log = logging.getLogger(__name__)


def seconds() -> float:
    """Return monotonic seconds that go on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def own_namespace() -> str:
    """Return the namespace of our pod; `default` outside of one."""
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError:
        return "default"


def own_identity() -> str:
    """Return a name that no other process has, nor this one after a restart."""
    return f"{socket.gethostname()}_{os.getpid()}_{os.urandom(4).hex()}"


@dataclass(frozen=True, kw_only=True)
class LeaseOptions:
    """The Lease that replicas share."""

    name: str = "coppice-operator"
    namespace: str
    duration_seconds: int = 10
    """After so long without a renewal another replica takes over. Shorter is quicker, and less patient with a slow
    API server: a leader that cannot renew for two thirds of it stops."""

    @property
    def renew_deadline_seconds(self) -> float:
        """How long after a renewal was sent the leader may write."""
        return self.duration_seconds * 2 / 3

    @property
    def retry_seconds(self) -> float:
        """How often the lease is renewed, or looked at."""
        return self.duration_seconds / 5


class Elector:
    """Campaigns for the lease and works while it holds it.

    Args:
        kube: Must not be fenced, and its timeout should not be longer than `options.retry_seconds`.
        options: Which lease.
        identity: Unique to this process.
        clock: Monotonic seconds.
    """

    def __init__(self, kube: Kube, options: LeaseOptions, identity: str, clock: Callable[[], float] = seconds) -> None:
        self._kube, self._options, self.identity, self._clock = kube, options, identity, clock
        self._write_until = 0.0
        self._lease: JsonObject | None = None
        """As last seen or written."""
        self._seen_at = 0.0
        """When `_lease` was first seen like this."""

    def seconds_left(self) -> float:
        """Return how long this replica may write; 0 or less when it may not."""
        return self._write_until - self._clock()

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Lead again and again, for ever: run `work` while leading and cancel it when the lease is lost.

        Cancelled, it cancels the work first and then gives the lease back, so that another replica begins at once. An
        error of the work ends it the same way.
        """
        try:
            while True:
                await self._campaign()
                _log.info("leading as %s", self.identity, extra={"reason": "LeaseTaken"})
                task = asyncio.ensure_future(work())
                try:
                    await self._hold(task)
                finally:
                    self._write_until = 0.0
                    await cancel((task,))
                if not task.cancelled():
                    task.result()
                _log.warning("the lease is lost: standing by", extra={"reason": "LeaseLost"})
        finally:
            await self._release()

    async def _campaign(self) -> None:
        """Return once the lease is ours."""
        while True:
            wait = self._options.retry_seconds * random.uniform(0.8, 1.0)  # noqa: S311 - spreads replicas
            try:
                self._note(await self._read())
                remaining = self._remaining()
                if remaining <= 0 and await self._take():
                    return
                # At the moment it runs out, not up to a whole period later.
                wait = min(wait, remaining) if remaining > 0 else wait
            except KubeError as error:
                _log.warning("cannot look at the lease: %s", error, extra={"reason": "LeaseUnreachable"})
            await asyncio.sleep(wait)

    async def _hold(self, task: asyncio.Future[None]) -> None:
        """Renew until the work ends or the lease is lost."""
        while True:
            await asyncio.wait((task,), timeout=self._options.retry_seconds)
            # Here also after a pause of the whole process: what ran out meanwhile may be another's by now.
            if task.done() or self.seconds_left() <= 0:
                return
            try:
                if not await self._take():
                    # Ours, by a renewal whose answer was lost, or another's.
                    self._note(await self._read())
                    if self._holder() != self.identity or not await self._take():
                        return
            except KubeError as error:
                _log.warning("cannot renew the lease: %s", error, extra={"reason": "LeaseUnreachable"})

    async def _read(self) -> JsonObject | None:
        path = object_path(_API_VERSION, "Lease", self._options.namespace, self._options.name)
        try:
            return await self._kube.get(path)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def _note(self, lease: JsonObject | None) -> None:
        """Remember when the lease was first seen as it is.

        A person may delete it. Whoever held it does not know yet, and we may not know who that was, so the others wait
        as if it had been renewed; only a replica that never saw one takes it for the first.
        """
        if lease is None:
            if self._lease is not None and not self._deleted:
                self._lease, self._seen_at = {**self._lease, "metadata": {}}, self._clock()
        elif self._lease is None or lease.get("spec") != self._lease.get("spec"):
            before = self._holder()
            self._lease, self._seen_at = lease, self._clock()
            if self._holder() not in (before, self.identity):
                _log.info("standing by: %s leads", self._holder() or "nobody", extra={"reason": "LeaseHeld"})
        else:
            self._lease = lease

    def _holder(self) -> str:
        return str(((self._lease or {}).get("spec") or {}).get("holderIdentity") or "")

    @property
    def _deleted(self) -> bool:
        return self._lease is not None and not self._lease["metadata"]

    def _remaining(self) -> float:
        """Return for how long the lease must be taken for another's."""
        if not self._deleted and self._holder() in ("", self.identity):
            return 0.0
        # The holder's own promise, not ours: replicas of two versions may differ in it.
        spec = (self._lease or {}).get("spec") or {}
        duration = float(spec.get("leaseDurationSeconds") or self._options.duration_seconds)
        return self._seen_at + duration - self._clock()

    async def _take(self) -> bool:
        """Take or renew the lease as it was last seen; False when it has changed since."""
        sent = self._clock()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = (self._lease or {}).get("spec") or {}
        renewed = self._holder() == self.identity
        spec = {
            **before,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._options.duration_seconds,
            "acquireTime": before.get("acquireTime") if renewed else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (not renewed),
        }
        try:
            self._note(await self._write(spec))
        except KubeError as error:
            if error.status in (404, 409):
                return False
            raise
        self._write_until = sent + self._options.renew_deadline_seconds
        return True

    async def _write(self, spec: JsonObject) -> JsonObject:
        namespace, name = self._options.namespace, self._options.name
        metadata = (self._lease or {}).get("metadata") or {}
        body = {"apiVersion": _API_VERSION, "kind": "Lease", "metadata": {"name": name, "namespace": namespace}}
        if not metadata:
            return await self._kube.create(collection_path(_API_VERSION, "Lease", namespace), {**body, "spec": spec})
        # The version read is the precondition: of two that take it at once, one is refused.
        body["metadata"] = metadata
        return await self._kube.replace(object_path(_API_VERSION, "Lease", namespace, name), {**body, "spec": spec})

    async def _release(self) -> None:
        self._write_until = 0.0
        if self._holder() != self.identity:
            return
        spec = {**(self._lease or {})["spec"], "holderIdentity": ""}
        # If this fails it runs out.
        with contextlib.suppress(KubeError):
            await self._write(spec)
            _log.info("the lease is given back", extra={"reason": "LeaseReleased"})
