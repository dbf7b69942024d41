"""Host names of pods on the process node: what a container is told in their place."""

from __future__ import annotations

from typing import Any

import pytest

from devcluster.node.names import Names, NoSuchHostError

Json = dict[str, Any]


def pod(hostname: str, ip: str | None, *, subdomain: str = "run-a", phase: str = "Running", **metadata: Any) -> Json:
    status = {"phase": phase} | ({"podIP": ip} if ip else {})
    return {
        "metadata": {"name": hostname, "namespace": "here", **metadata},
        "spec": {"hostname": hostname, "subdomain": subdomain},
        "status": status,
    }


class Listing:
    """The API server, as far as it is asked."""

    def __init__(self, *pods: Json) -> None:
        self.pods = pods

    async def get(self, path: str) -> Json:
        assert path == "/api/v1/namespaces/here/pods"
        return {"items": list(self.pods)}


async def names(*others: Json, text: str) -> str:
    found = await Names.of(Listing(*others), pod("a-1", None), "127.1.1.1", (text,))  # type: ignore[arg-type]
    return found.told(text)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a-0.run-a", "127.2.2.2"),
        ("tcp://a-0.run-a:29400", "tcp://127.2.2.2:29400"),
        ("a-0.run-a.here.svc.cluster.local", "127.2.2.2"),
        ("a-1.run-a a-0.run-a", "127.1.1.1 127.2.2.2"),
        ("a-0.run-ab", "a-0.run-ab"),
        ("other.a-0.run-a", "other.a-0.run-a"),
    ],
    ids=["name", "address", "full", "own", "longer", "below"],
)
async def test_a_name_becomes_the_address_of_the_pod_that_lives(text: str, want: str) -> None:
    dead = (pod("a-0", "127.9.9.9", phase="Failed"), pod("a-0", "127.9.9.8", deletionTimestamp="now"))
    alive = (pod("a-0", "127.2.2.2"), pod("a-0", "127.3.3.3", subdomain="run-b"))
    assert await names(*dead, *alive, text=text) == want


async def test_a_pod_without_an_address_is_waited_for() -> None:
    with pytest.raises(NoSuchHostError, match=r"a-0\.run-a: no such host yet"):
        await names(pod("a-0", None), text="a-0.run-a")


async def test_a_pod_without_a_subdomain_is_told_what_is_written() -> None:
    alone: Json = {"metadata": {"name": "x", "namespace": "here"}, "spec": {}}
    found = await Names.of(Listing(), alone, "127.1.1.1", ("a-0.run-a",))  # type: ignore[arg-type]
    assert found.told("a-0.run-a") == "a-0.run-a"
