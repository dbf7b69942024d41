"""Two operator processes on the real API server: one works, and the other takes over whatever happens to it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster
from tests.builders import prune_job
from tests.integration.conftest import Kubectl
from tests.integration.operator.replica import Replica
from tests.integration.operator.tcp_proxy import TcpProxy, port_of
from tests.waiting import wait_for

TAKE_OVER_SECONDS = 15
Json = dict[str, Any]


class Pair:
    """Two replicas in a namespace of their own, each on a line of its own, and a watch that counts the Jobs made."""

    def __init__(self, cluster: Cluster, kubectl: Kubectl, space: str, directory: Path) -> None:
        self.kubectl, self.space = kubectl, space
        self.lines = [TcpProxy(port_of(cluster.api_server_url)) for _ in range(2)]
        self.replicas = [
            Replica(
                line.kubeconfig(cluster.kubeconfig, directory / f"kubeconfig-{number}"), directory / f"{number}.log",
                "--namespace", space, "--leader-elect", "--lease-namespace", space,
            )
            for number, line in enumerate(self.lines)
        ]  # fmt: skip
        self._made = directory / "jobs"
        with self._made.open("w") as out:
            self._watch = subprocess.Popen(
                [str(kubectl.program), f"--kubeconfig={kubectl.kubeconfig}", "-n", space, "get", "jobs", "--watch",
                 "--output-watch-events", "-o", "custom-columns=T:.type,N:.object.metadata.name", "--no-headers"],
                stdout=out,
            )  # fmt: skip

    def end(self) -> None:
        for replica in self.replicas:
            replica.__exit__()
        for line in self.lines:
            line.__exit__()
        self._watch.kill()
        self._watch.wait()

    def leader(self) -> int:
        """Return which one leads; -1 while none does."""
        roles = [replica.role() for replica in self.replicas]
        return roles.index("leader") if "leader" in roles else -1

    def lease(self) -> Json:
        text = self.kubectl.must("-n", self.space, "get", "lease", "coppice-operator", "-o", "json")
        return dict(json.loads(text)["spec"])

    def apply(self, *names: str) -> None:
        # For a queue that is not there: each makes a Job without a pod, and after that nothing happens by itself.
        items = [prune_job(run__queueName="none") for _ in names]
        for item, name in zip(items, names, strict=True):
            item["metadata"]["name"] = name
        self.kubectl.must(
            "-n", self.space, "apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": items}
        )

    def settled(self, *names: str) -> bool:
        """Return whether these have their status and the Job that is written last."""
        text = self.kubectl.must("-n", self.space, "get", "prunejobs,jobs", "-o", "json")
        items = json.loads(text)["items"]
        known = {item["metadata"]["name"] for item in items if item.get("status", {}).get("variants")}
        begun = {item["metadata"]["labels"]["coppice.dev/prunejob"] for item in items if item["kind"] == "Job"}
        return known & begun >= set(names)

    def made(self) -> list[str]:
        """Return the name of each Job that was made, as often as it was."""
        pairs = [line.split() for line in self._made.read_text().splitlines()]
        return [name for kind, name in pairs if kind == "ADDED"]


@pytest.fixture
def pair(cluster: Cluster, kubectl: Kubectl, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pair]:
    space = "l-" + request.node.callspec.id if hasattr(request.node, "callspec") else "l-release"
    kubectl.must("create", "namespace", space)
    pair = Pair(cluster, kubectl, space, tmp_path)
    try:
        for replica in pair.replicas:
            wait_for(replica.ready, "both replicas")
        wait_for(lambda: pair.leader() >= 0, "a leader")
        yield pair
    finally:
        pair.end()
        kubectl.must("delete", "namespace", space, "--wait=false")


def _kill(pair: Pair, leader: int) -> None:
    pair.replicas[leader].signal(signal.SIGKILL)
    pair.replicas[leader].process.wait()


def _pause(pair: Pair, leader: int) -> None:
    pair.replicas[leader].signal(signal.SIGSTOP)


def _wake(pair: Pair, leader: int) -> None:
    pair.replicas[leader].signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("strike", "mend"),
    [
        pytest.param(_kill, None, id="killed"),
        pytest.param(_pause, _wake, id="paused"),
        pytest.param(
            lambda pair, leader: pair.lines[leader].stall(), lambda pair, leader: pair.lines[leader].heal(),
            id="cut-off",
        ),
    ],
)  # fmt: skip
def test_the_other_takes_over_and_nothing_is_done_twice(
    pair: Pair, strike: Callable[[Pair, int], None], mend: Callable[[Pair, int], None] | None
) -> None:
    old = pair.leader()
    new = 1 - old
    # It may have tried to be the first to make the Lease.
    idle = pair.replicas[new].writes()
    pair.apply("before")
    wait_for(lambda: pair.settled("before"), "the first PruneJob")
    assert pair.replicas[new].writes() == idle
    before = pair.replicas[old].writes("PUT")
    strike(pair, old)
    renewed = pair.lease()
    later = ("one", "two", "three")
    pair.apply(*later)
    wait_for(lambda: pair.replicas[new].role() == "leader", "the other to lead")
    taken = pair.lease()
    assert taken["leaseTransitions"] == renewed["leaseTransitions"] + 1
    waited_seconds = _time(taken["acquireTime"]) - _time(renewed["renewTime"])
    print(f"taken over {waited_seconds:.1f} s after the last renewal")
    assert waited_seconds < TAKE_OVER_SECONDS
    wait_for(lambda: pair.settled(*later), "what came meanwhile")
    by_new = pair.replicas[new].writes("PUT")
    if mend is not None:
        mend(pair, old)
        wait_for(lambda: pair.replicas[old].role() == "standby", "the old leader to stand by")
        stood_by = pair.replicas[old].writes()
        pair.apply("after")
        wait_for(lambda: pair.settled("after"), "what came after")
        wait_for(lambda: pair.replicas[old].value("coppice_operator_cached_objects", kind="Job") == 5, "its caches")
        assert pair.replicas[old].writes("PUT") == before
        assert pair.replicas[old].writes() == stood_by
        assert pair.lease()["holderIdentity"] == taken["holderIdentity"]
        assert pair.replicas[new].writes("PUT") > by_new
    assert len(pair.made()) == len(set(pair.made())) == (5 if mend else 4)


def test_a_leader_that_is_told_to_end_gives_the_lease_back(pair: Pair) -> None:
    old = pair.leader()
    holder = pair.lease()["holderIdentity"]
    pair.apply("before")
    pair.replicas[old].signal(signal.SIGTERM)
    assert pair.replicas[old].process.wait(timeout=30) == 0, pair.replicas[old].log.read_text()
    # At once: long before it would have run out, the lease is nobody's or the other's.
    assert pair.lease()["holderIdentity"] != holder
    wait_for(lambda: pair.leader() == 1 - old, "the other to lead")
    wait_for(lambda: pair.settled("before"), "the PruneJob")
    assert len(pair.made()) == 1


def _time(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
