"""One of two processes, of which the second is lost: for `test_lost`. Arguments: how, a directory."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from coppice_api.run import RunConfig
from coppice_pruner.run import execution
from coppice_pruner.run.energy import RunEnergy
from coppice_pruner.training import joined
from tests import machine

LOST_SECONDS = 2.0


def config(directory: Path) -> RunConfig:
    """A contract whose report goes into the directory."""
    made: RunConfig = machine.config(directory)
    return made


def fail(how: str) -> None:
    """Be lost."""
    if how == "error":
        raise ValueError("no such thing")
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[how])


def main() -> None:
    how, directory = sys.argv[1], Path(sys.argv[2])
    rank = int(os.environ["RANK"])
    contract = config(directory)
    with joined(lambda message: execution._end_lost(contract, message), lost_seconds=LOST_SECONDS) as processes:
        used = {"joules": 0.0}
        meter: Any = SimpleNamespace(read_joules=lambda: 100.0 + used["joules"])
        energy = RunEnergy(meter, processes, 1000.0)
        used["joules"] = 10.0 * (rank + 1)
        assert energy.total_joules() == 1030.0
        deadline = time.monotonic() + 30
        while rank == 0 and energy.so_far_joules() != 1030.0:
            assert time.monotonic() < deadline, "the other's beat tells what it has used"
            time.sleep(0.05)
        processes.mean(0.0)
        if how == "none":
            return
        if rank == 1:
            (directory / "pid").write_text(str(os.getpid()))
            fail(how)
        # Where the other never comes.
        processes.mean(0.0)
        time.sleep(60)


if __name__ == "__main__":
    main()
