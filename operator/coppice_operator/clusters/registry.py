"""The clusters that rollouts need now: one connection a Secret, from the first rollout that needs it to the last.

A Secret is read again every SECRET_SECONDS, and at once when its cluster does not know its credentials any more; a new
resourceVersion makes a new connection. Nothing is written to a cluster that is down: what is held, and why, is the
planner's to say.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from coppice_operator.cache import Cache
from coppice_operator.clusters.faults import fault_of
from coppice_operator.clusters.kubeconfig import Connection, read_secret
from coppice_operator.clusters.remote import Patience, Remote
from coppice_operator.clusters.view import ClusterView, Kinds
from coppice_operator.kube import Kube, KubeError
from coppice_operator.plan import JsonObject
from coppice_operator.queue import Key
from coppice_operator.secret import SecretError, fetch
from coppice_operator.tasks import cancel

SECRET_SECONDS = 60.0
REQUEST_SECONDS = 10.0
"""How long one request to another cluster may take: a pass waits for it."""
_log = logging.getLogger(__name__)


class Clusters:
    """Connections by namespace and name of their Secret.

    Args:
        kube: The operator's own cluster, where the Secrets are.
        changed: Told of the namespace in which rollouts may want to look at a cluster again.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        kube: Kube,
        changed: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube, self._changed, self._clock = kube, changed, clock
        self._members: dict[tuple[str, str], _Member] = {}
        self._needs: dict[Key, dict[str, Kinds]] = {}

    def need(self, key: Key, wanted: Mapping[str, Kinds]) -> None:
        """Say which clusters, and which kinds there, a rollout needs from now on; none when it has ended or is gone."""
        before = self._needs.pop(key, {})
        if wanted:
            self._needs[key] = dict(wanted)
        for name in before.keys() | wanted.keys():
            self._adjust(key.namespace, name)

    def view(self, namespace: str, name: str) -> ClusterView | None:
        """Return what is known of a cluster that is needed; None while nobody has tried to reach it."""
        return self._members[namespace, name].view()

    def remote(self, namespace: str, name: str) -> Remote | None:
        """Return what to write with, and where the answer belongs; None while there is no connection."""
        member = self._members.get((namespace, name))
        return member.remote if member is not None else None

    def failed(self, namespace: str, name: str, error: KubeError) -> None:
        """Take in that a write got no answer, or that the credentials are not known any more."""
        member = self._members.get((namespace, name))
        if member is not None:
            member.failed(error)

    async def close(self) -> None:
        """End every connection."""
        members, self._members = list(self._members.values()), {}
        self._needs.clear()
        await asyncio.gather(*(member.end() for member in members))

    def _adjust(self, namespace: str, name: str) -> None:
        needed = [wanted[name] for key, wanted in self._needs.items() if key.namespace == namespace and name in wanted]
        member = self._members.get((namespace, name))
        if not needed:
            if member is not None:
                del self._members[namespace, name]
                member.cancel()
            return
        if member is None:
            member = self._members[namespace, name] = _Member(self, namespace, name)
        member.watch(frozenset[tuple[str, str]]().union(*needed))

    async def secret(self, namespace: str, name: str) -> JsonObject:
        """Return a Secret.

        Raises:
            SecretError: If it cannot be had.
        """
        return await fetch(self._kube, namespace, name, "targets[].cluster")

    def connect(self, connection: Connection) -> Kube:
        """Return a connection, not yet open."""
        return self._kube.elsewhere(lambda: connection, REQUEST_SECONDS)

    def tell(self, namespace: str) -> None:
        """Have the rollouts of a namespace looked at."""
        self._changed(namespace)

    def now(self) -> float:
        """Return monotonic seconds."""
        return self._clock()


class _Member:
    """One Secret: reads it, connects, and connects anew."""

    def __init__(self, clusters: Clusters, namespace: str, name: str) -> None:
        self._clusters, self._namespace, self._name = clusters, namespace, name
        self.remote: Remote | None = None
        self._kinds: Kinds = frozenset()
        self._server: str | None = None
        self._cache = Cache()
        self._fault: str | None = None
        self._stale = asyncio.Event()
        self._wider = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"cluster-{namespace}/{name}")

    def watch(self, kinds: Kinds) -> None:
        """Watch these kinds; what nobody needs any more is watched on until the connection ends."""
        if not kinds <= self._kinds:
            self._kinds |= kinds
            self._wider.set()

    def view(self) -> ClusterView | None:
        """Return what is known; None while nobody has tried."""
        if self._fault is not None:
            return ClusterView(self._workloads(), self._fault)
        if self.remote is None:
            return None
        settled, fault = self.remote.fault(self._kinds)
        if fault is not None:
            return ClusterView(self._workloads(), fault)
        return ClusterView(self._workloads()) if settled else None

    def failed(self, error: KubeError) -> None:
        """Take in what a write showed."""
        fault = fault_of(error, self._name)
        if self.remote is not None and fault is not None:
            self.remote.failed(fault)
            if error.status == 401:
                self._stale.set()

    def cancel(self) -> None:
        """Have it end."""
        self._task.cancel()

    async def end(self) -> None:
        """Return when it has ended."""
        await cancel((self._task,))

    async def _run(self) -> None:
        patience = Patience()
        while True:
            try:
                await self._connect(patience)
            except asyncio.CancelledError:
                raise
            except Exception:
                # The outermost loop: what cannot be foreseen of one cluster must not stop the others.
                _log.exception("cluster %s/%s", self._namespace, self._name, extra={"reason": "Defect"})
                self._faulty("the operator failed at it: its log says more")
                await self._wait(patience.wait_seconds())

    async def _connect(self, patience: Patience) -> None:
        while True:
            try:
                secret = await self._clusters.secret(self._namespace, self._name)
                # A file made to be slow to read must not hold up the loop.
                connection = await asyncio.to_thread(read_secret, secret)
            except SecretError as error:
                self._faulty(str(error))
                await self._wait(patience.wait_seconds())
                continue
            if connection.server != self._server:
                # Another cluster: what the one before had says nothing of it.
                self._cache, self._server = Cache(), connection.server
            try:
                async with self._clusters.connect(connection) as kube:
                    remote = Remote(kube, self._cache, self._name, self._namespace, self._tell, self._clusters.now)
                    version = str(secret["metadata"].get("resourceVersion"))
                    patience.reset()
                    await self._while_unchanged(remote, version)
            except KubeError as error:
                self._faulty(str(error))
                await self._wait(patience.wait_seconds())

    async def _while_unchanged(self, remote: Remote, version: str) -> None:
        """Follow what is there until the Secret has another version, or cannot be had any more."""
        self.remote, self._fault = remote, None
        following: dict[tuple[str, str], asyncio.Task[None]] = {}
        patience = Patience()
        try:
            while True:
                for api_version, kind in self._kinds - following.keys():
                    following[api_version, kind] = asyncio.create_task(
                        remote.follow(api_version, kind), name=f"cluster-{self._namespace}/{self._name}-{kind}"
                    )
                # Credentials that are not known (any more) are expected to be replaced.
                view = self.view()
                ill = view is not None and view.fault is not None
                await self._wait(patience.wait_seconds() if ill else SECRET_SECONDS)
                if not ill:
                    patience.reset()
                for task in following.values():
                    if task.done():
                        task.result()
                try:
                    secret = await self._clusters.secret(self._namespace, self._name)
                except SecretError as error:
                    if isinstance(error.__cause__, KubeError) and error.__cause__.status not in (403, 404):
                        # Our own API server does not answer: that says nothing of this cluster.
                        continue
                    return
                if str(secret["metadata"].get("resourceVersion")) != version:
                    return
        finally:
            await cancel(following.values())
            self.remote = None

    async def _wait(self, seconds: float) -> None:
        """Wait, or until the credentials turn out to be stale, or more is to be watched."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._stale, self._wider)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            self._stale.clear()
            self._wider.clear()

    def _workloads(self) -> tuple[JsonObject, ...]:
        return tuple(item for _, kind in sorted(self._kinds) for item in self._cache.all(kind))

    def _faulty(self, fault: str) -> None:
        if self._fault != fault:
            self._fault = fault
            self._tell()

    def _tell(self) -> None:
        self._clusters.tell(self._namespace)
