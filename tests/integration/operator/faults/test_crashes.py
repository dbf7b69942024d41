"""The operator dies at each of its writes, and the life it served ends as if nothing had happened.

The writes are found by living once without faults, so a write that is new tomorrow is covered tomorrow.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from devcluster import Cluster
from tests.integration.conftest import Kubectl
from tests.integration.operator.faults.api import Json
from tests.integration.operator.faults.lives import LIVES, Life, lost_or_doubled, picture
from tests.integration.operator.faults.proxy import Cut, Effect, Fault, Kill
from tests.integration.operator.faults.world import World

_AT_ONCE = 8
_NOTES = re.compile(r"events|.*/status")
"""What is said, not done."""
_PASSING = re.compile(r"events")
"""What one life says and the next need not: an Event counts up where a pass is made again, which is up to timing."""


@dataclass(frozen=True)
class Crash:
    """Something happens at one write."""

    life: Life
    kind: str
    """Of the write."""
    number: int
    """Of the write among those of its kind, counted from 0: what comes before it differs from life to life."""
    effect: Effect

    def inject(self, world: World) -> Fault:
        """Have it happen."""
        verb, _, resource = self.kind.partition(" ")
        return world.proxy.inject(self.effect, verb=re.escape(verb), resource=re.escape(resource), skip=self.number)

    def deaths(self, fault: Fault) -> int:
        """Return how often the operator has died of it so far."""
        return fault.struck if isinstance(self.effect, Kill) else 0

    def __str__(self) -> str:
        return f"{self.life.name}, {self.effect} at write {self.number + 1} of {self.kind}"


@dataclass(frozen=True)
class End:
    """How a life went."""

    writes: list[str]
    """Their kinds, in order."""
    wrong: list[str]
    seen: Json
    """The picture at its end."""
    struck: bool


def crashes(life: Life, kinds: list[str]) -> Iterator[Crash]:
    """Return what is tried: the death before the answer at every write, the others once where something is done."""
    for place, kind in enumerate(kinds):
        number = kinds[:place].count(kind)
        yield Crash(life, kind, number, Kill(answered=False))
        if not number and not _NOTES.fullmatch(_resource(kind)):
            yield Crash(life, kind, number, Kill(answered=True))
            yield Crash(life, kind, number, Cut())


@pytest.mark.parametrize("life", LIVES, ids=[life.name.replace(" ", "-") for life in LIVES])
def test_a_crash_at_any_write_changes_nothing(cluster: Cluster, kubectl: Kubectl, tmp_path: Path, life: Life) -> None:
    def live(name: str, crash: Crash | None, want: Json | None = None) -> End:
        with World(cluster, f"c-{life.name.replace(' ', '-')}-{name}", tmp_path) as world:
            fault = crash.inject(world) if crash else None
            world.revive = True
            life.live(world)

            def left() -> bool:
                # Counted anew each time: the last writes come after all that the life waits for.
                deaths = crash.deaths(fault) if crash and fault else 0
                return world.operator.starts == 1 + deaths and world.settled()

            # It may have died at the last of its writes: whoever comes next must leave things as they are.
            world.until(left, "the operator that is left")
            with contextlib.suppress(AssertionError):
                world.until(lambda: want is None or picture(world) == want, "the same end", seconds=5)
            kinds = [write.kind for write in world.proxy.writes]
            return End(kinds, lost_or_doubled(world, life), picture(world), bool(fault and fault.struck))

    whole = live("whole", None)
    assert whole.wrong == []
    tried = list(crashes(life, whole.writes))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ends = list(pool.map(lambda item: live(str(item[0]), item[1], whole.seen), enumerate(tried)))
    faults, died_at = [], set()
    for crash, end in zip(tried, ends, strict=True):
        wrong = list(end.wrong)
        # Two writes may be one when the operator has seen more in between: then there was no such write to die at.
        if end.struck:
            died_at.add(crash.kind)
        elif end.writes.count(crash.kind) > crash.number:
            wrong.append("the fault did not strike")
        if end.seen != whole.seen:
            wrong.append(f"ended as {end.seen}, not {whole.seen}")
        faults += [f"{crash}: {text}" for text in wrong]
    assert not faults, "\n".join(faults)
    # Every kind of write was died at, not only counted; one that must recur, and did not, is told here.
    assert died_at >= {kind for kind in whole.writes if not _PASSING.fullmatch(_resource(kind))}


def _resource(kind: str) -> str:
    return kind.partition(" ")[2]
