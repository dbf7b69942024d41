"""Leader election against an API server in memory that can be slow, deaf, and lose its answers; time is virtual."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from coppice_operator.kube import KubeError
from coppice_operator.leader import Elector, LeaseOptions
from tests.virtual_time import in_virtual_time

Json = dict[str, Any]
LEASE = LeaseOptions(namespace="default")
TIMEOUT_SECONDS = LEASE.retry_seconds
SEEDS, STEPS = 10, 60


class ApiServer:
    """Holds one Lease, with versions as preconditions."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.version = 0
        self.writes: list[tuple[float, str]] = []
        """(when, holder)."""

    def store(self, body: Json) -> Json:
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        self.lease = {**body, "metadata": metadata}
        self.writes.append((asyncio.get_running_loop().time(), body["spec"]["holderIdentity"]))
        return self.lease


class Line:
    """One replica's way to the API server."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.cut = False
        self.deaf = False
        """Requests arrive, answers do not."""
        self.delay_seconds = 0.01

    async def get(self, path: str) -> Json:
        async with self._exchange():
            if self.server.lease is None:
                raise KubeError(404, path)
            return self.server.lease

    async def create(self, path: str, body: Json) -> Json:
        async with self._exchange():
            if self.server.lease is not None:
                raise KubeError(409, path)
            return self.server.store(body)

    async def replace(self, path: str, body: Json) -> Json:
        async with self._exchange():
            if self.server.lease is None:
                raise KubeError(404, path)
            if body["metadata"]["resourceVersion"] != self.server.lease["metadata"]["resourceVersion"]:
                raise KubeError(409, path)
            return self.server.store(body)

    @contextlib.asynccontextmanager
    async def _exchange(self) -> AsyncIterator[None]:
        await asyncio.sleep(self.delay_seconds)
        if self.cut:
            await asyncio.sleep(TIMEOUT_SECONDS)
            raise KubeError(0, "timeout")
        yield
        if self.deaf:
            await asyncio.sleep(TIMEOUT_SECONDS)
            raise KubeError(0, "timeout")
        await asyncio.sleep(self.delay_seconds)


class Replica:
    """An elector, its line, and a clock that can be set forward as a pause would."""

    def __init__(self, server: ApiServer, name: str, options: LeaseOptions = LEASE) -> None:
        self.line, self.ahead_seconds = Line(server), 0.0
        loop = asyncio.get_running_loop()
        self.elector = Elector(self.line, options, name, lambda: loop.time() + self.ahead_seconds)  # type: ignore[arg-type]
        self.works = False
        self.terms = 0
        self.task = asyncio.create_task(self.elector.run(self._work))

    @property
    def may_write(self) -> bool:
        return self.works and self.elector.seconds_left() > 0

    async def end(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def _work(self) -> None:
        self.works, self.terms = True, self.terms + 1
        try:
            await asyncio.sleep(1e9)
        finally:
            self.works = False


async def seconds_until(condition: Any, limit_seconds: float = 60) -> float:
    """Wait for a condition and return how long it took."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while not condition():
        assert loop.time() - begin < limit_seconds, "it did not come about"
        await asyncio.sleep(0.01)
    return loop.time() - begin


async def leader_and_standby(options: LeaseOptions = LEASE) -> tuple[ApiServer, Replica, Replica]:
    server = ApiServer()
    first = Replica(server, "a", options)
    await seconds_until(lambda: first.may_write)
    second = Replica(server, "b", options)
    await asyncio.sleep(30)
    return server, first, second


def test_the_first_leads_at_once_and_the_second_stands_by_as_long_as_it_does() -> None:
    async def test() -> None:
        server, first, second = await leader_and_standby()
        await asyncio.sleep(3600)
        assert first.may_write
        assert (first.terms, second.terms) == (1, 0)
        # One write a period, and none by the other.
        assert {holder for _, holder in server.writes} == {"a"}
        assert len(server.writes) == pytest.approx(3630 / LEASE.retry_seconds, rel=0.02)
        await first.end()
        await second.end()

    in_virtual_time(test())


def test_a_clean_exit_lets_the_other_lead_within_a_period() -> None:
    async def test() -> None:
        _, first, second = await leader_and_standby()
        await first.end()
        assert await seconds_until(lambda: second.may_write) <= LEASE.retry_seconds + 0.1
        await second.end()

    in_virtual_time(test())


@pytest.mark.parametrize("offset_seconds", [0.0, 0.5, 1.0, 1.5, 1.9])
def test_a_leader_that_is_cut_off_stops_before_the_other_begins_in_under_15_s(offset_seconds: float) -> None:
    async def test() -> None:
        _, first, second = await leader_and_standby()
        await asyncio.sleep(offset_seconds)
        first.line.cut = True
        stopped = await seconds_until(lambda: not first.may_write)
        assert not second.may_write
        assert stopped + await seconds_until(lambda: second.may_write) < 15
        # It stands by, and leads again when it can and may.
        first.line.cut = False
        await asyncio.sleep(30)
        assert not first.works
        await second.end()
        await seconds_until(lambda: first.may_write)
        assert first.terms == 2
        await first.end()

    in_virtual_time(test())


def test_a_leader_that_slept_may_not_write_when_it_wakes() -> None:
    async def test() -> None:
        server, first, second = await leader_and_standby()
        writes = len(server.writes)
        first.ahead_seconds += 8
        # Before its own loop has had a turn.
        assert not first.may_write
        await seconds_until(lambda: not first.works)
        assert {holder for _, holder in server.writes[writes:]} <= {"b"}
        await first.end()
        await second.end()

    in_virtual_time(test())


def test_renewals_whose_answers_are_lost_are_not_believed() -> None:
    async def test() -> None:
        _, first, second = await leader_and_standby()
        first.line.deaf = True
        await seconds_until(lambda: not first.may_write)
        # The API server took the renewals, so nobody may take over for a whole lease after the last.
        assert not second.may_write
        first.line.deaf = False
        await seconds_until(lambda: first.may_write or second.may_write)
        await first.end()
        await second.end()

    in_virtual_time(test())


def test_one_lost_answer_does_not_cost_the_lease() -> None:
    async def test() -> None:
        _, first, second = await leader_and_standby()
        first.line.deaf = True
        await asyncio.sleep(2.5)
        first.line.deaf = False
        await asyncio.sleep(30)
        assert (first.may_write, first.terms, second.terms) == (True, 1, 0)
        await first.end()
        await second.end()

    in_virtual_time(test())


def test_a_lease_that_a_person_deletes_makes_no_second_leader() -> None:
    async def test() -> None:
        server, first, second = await leader_and_standby()
        chance = random.Random(1)
        for _ in range(50):
            server.lease = None
            await asyncio.sleep(chance.uniform(2.5, 6))
            assert not second.may_write
        assert first.may_write
        await first.end()
        await second.end()

    in_virtual_time(test())


def test_a_replica_of_another_version_is_given_the_time_it_asked_for() -> None:
    async def test() -> None:
        server = ApiServer()
        patient = Replica(server, "a", LeaseOptions(namespace="default", duration_seconds=60))
        await seconds_until(lambda: patient.may_write)
        hasty = Replica(server, "b", LeaseOptions(namespace="default", duration_seconds=5))
        patient.line.cut = True
        assert await seconds_until(lambda: hasty.may_write, 90) > 50
        await patient.end()
        await hasty.end()

    in_virtual_time(test())


def test_work_that_fails_ends_the_term_and_gives_the_lease_back() -> None:
    async def test() -> None:
        server = ApiServer()

        async def work() -> None:
            raise ValueError("a defect")

        with pytest.raises(ValueError, match="a defect"):
            await Elector(Line(server), LEASE, "a").run(work)  # type: ignore[arg-type]
        assert server.lease is not None
        assert server.lease["spec"]["holderIdentity"] == ""

    in_virtual_time(test())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_to_their_lines_two_never_write_at_once_and_one_does_in_the_end(seed: int) -> None:
    async def test() -> None:
        chance = random.Random(seed)
        server = ApiServer()
        replicas = [Replica(server, name) for name in "abc"]
        await asyncio.sleep(5)
        deletion = chance.randrange(STEPS)
        for step in range(STEPS):
            troubled = chance.choice(replicas)
            if step == deletion:
                server.lease = None
            match chance.randrange(5):
                case 0:
                    troubled.line.cut = True
                case 1:
                    troubled.line.deaf = True
                case 2:
                    troubled.line.delay_seconds = chance.uniform(0.0, 0.9)
                case _:
                    troubled.line.cut = troubled.line.deaf = False
            for _ in range(chance.randrange(1, 100)):
                await asyncio.sleep(0.1)
                assert sum(replica.may_write for replica in replicas) <= 1
        for replica in replicas:
            replica.line.cut = replica.line.deaf = False
            replica.line.delay_seconds = 0.01
        await seconds_until(lambda: any(replica.may_write for replica in replicas))
        for replica in replicas:
            await replica.end()

    in_virtual_time(test())
