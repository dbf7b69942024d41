"""Each process of a run says that it lives and what it has used, and sees whether the others do.

A process that is killed, cut off or stopped leaves the others in a collective: for torch's two hours, on GPUs that
compute nothing. So each writes a beat into the store by which they found each other, from a thread and a connection of
its own, and who sees no beat of another for a minute ends its process. The Job starts the run again at its checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]

BEAT_SECONDS = 5.0
LOST_SECONDS = 60.0
"""Without a beat for so long a process is lost. It beats through everything that lets other threads run."""
_LEFT = "left"
_log = logging.getLogger(__name__)


class Heartbeat:
    """Of one process among several. Use with `with`: who leaves it by an error has the others end at once.

    Args:
        rank: Of this process.
        count: How many there are.
        lost: Called from the heartbeat's thread, with a sentence for people; it should end the process.
        lost_seconds: Without a beat for so long a process is lost.
    """

    def __init__(
        self, rank: int, count: int, lost: Callable[[str], None], *, lost_seconds: float = LOST_SECONDS
    ) -> None:
        self._rank, self._count, self._lost, self._lost_seconds = rank, count, lost, lost_seconds
        self._beat_seconds = min(BEAT_SECONDS, lost_seconds / 4)
        self.own_joules: Callable[[], float] = lambda: 0.0
        """What this process has used so far; called from the heartbeat's thread."""
        self._told = dict.fromkeys(self._others, 0.0)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @property
    def _others(self) -> list[int]:
        return [rank for rank in range(self._count) if rank != self._rank]

    @property
    def others_joules(self) -> float:
        """What the other processes had used at their last beats."""
        return sum(self._told.values())

    def __enter__(self) -> Heartbeat:
        """Begin."""
        self._store = TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
            timeout=timedelta(seconds=self._lost_seconds),
        )  # fmt: skip
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Say how it ended."""
        self._end.set()
        self._thread.join()
        try:
            self._store.set(self._key(self._rank), _LEFT if kind is None else kind.__name__)
        except (RuntimeError, ValueError) as error:
            _log.debug("nobody is left to be told: %s", error)

    def _beat(self) -> None:
        # Looks rather than seconds: after a pause of this process all the others would seem lost.
        number, seen = 0, dict.fromkeys(self._others, ("", 0))
        while not self._end.wait(0 if number == 0 else self._beat_seconds):
            number += 1
            try:
                self._store.set(self._key(self._rank), json.dumps([number, self.own_joules()]))
                trouble = next(filter(None, [self._look(rank, seen) for rank in self._others]), None)
            except (RuntimeError, ValueError) as error:
                # The store is a process too, in the pod with index 0.
                trouble = f"the store by which the run's processes know of each other is gone ({error})"
            if trouble and not self._end.is_set():
                self._lost(f"{trouble}: this process ends, and the run goes on from its last checkpoint")
                return

    def _look(self, rank: int, seen: dict[int, tuple[str, int]]) -> str | None:
        """Take in another's beat; return what is wrong with it."""
        key = self._key(rank)
        text = self._store.get(key).decode() if self._store.check([key]) else ""
        before, looks = seen[rank]
        seen[rank] = (text, looks + 1 if text == before else 0)
        if text.startswith("["):
            self._told[rank] = float(json.loads(text)[1])
        elif text and text != _LEFT:
            return f"process {rank} of {self._count} ended with {text}"
        if text == _LEFT or seen[rank][1] * self._beat_seconds < self._lost_seconds:
            return None
        return f"process {rank} of {self._count} has not been heard of for {self._lost_seconds:.0f} s"

    @staticmethod
    def _key(rank: int) -> str:
        return f"coppice/beat/{rank}"
