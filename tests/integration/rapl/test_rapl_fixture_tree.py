"""A comparison measured by RAPL over a fixture tree that a thread of this test moves, since this machine's own tree, if
it has one, is root's. It shows that the path from the files to the figures is right, not what a socket draws."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coppice_api.base import Provenance
from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_pruner.measurement import Workload, compare, cross_check, idle_power_watts
from coppice_pruner.meters import RaplMeter, select_meter

IDLE_WATTS, BUSY_WATTS = 20.0, 8.0
RANGE_MICROJOULES = 50_000_000
"""Goes round every few seconds, so that every window of the test meets it."""


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of 20 W without work and 8 W for a core that this process keeps busy."""
    package = tmp_path / "intel-rapl" / "intel-rapl:0"
    package.mkdir(parents=True)
    (package / "name").write_text("package-0\n")
    (package / "max_energy_range_uj").write_text(f"{RANGE_MICROJOULES}\n")
    register = os.open(package / "energy_uj", os.O_CREAT | os.O_WRONLY)
    begin, done = time.monotonic(), threading.Event()

    def move() -> None:
        joules = IDLE_WATTS * (time.monotonic() - begin) + BUSY_WATTS * time.process_time()
        # One write of one length: a reader never meets half a number.
        os.pwrite(register, f"{int(joules * 1e6) % RANGE_MICROJOULES:012d}\n".encode(), 0)

    def keep_moving() -> None:
        while not done.wait(0.001):
            move()

    move()
    thread = threading.Thread(target=keep_moving)
    thread.start()
    monkeypatch.setenv("COPPICE_POWERCAP_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("COPPICE_WATTS_PER_CORE", str(BUSY_WATTS))
    yield package
    done.set()
    thread.join()
    os.close(register)


def compute(cpu_seconds: float) -> Workload:
    def run() -> None:
        until = time.thread_time() + cpu_seconds
        while time.thread_time() < until:
            pass

    return Workload(run, 1)


def test_a_comparison_over_a_fixture_tree_is_measured_idle_apart_and_checked(socket: Path) -> None:
    meter = select_meter(MeterKind.AUTO, MinimumProvenance.MEASURED, cuda=False)
    try:
        assert isinstance(meter, RaplMeter)
        idle_watts = idle_power_watts(meter, window_seconds=0.5)
        found = compare(compute(0.02), compute(0.01), meter, pairs=3, window_seconds=0.5)
        check = cross_check(compute(0.02), meter, window_seconds=1.0, idle_watts=idle_watts)
    finally:
        meter.close()
    assert found.dense[0].provenance is Provenance.MEASURED
    # Half the work is half of the socket's energy, whatever else the machine does meanwhile: both are gross.
    assert found.energy_reduction_ratio == pytest.approx(0.5, abs=0.15)
    assert idle_watts is not None
    # The thread that moves the register takes some CPU time of its own.
    assert IDLE_WATTS <= idle_watts < IDLE_WATTS + BUSY_WATTS
    # What is above idling is the estimate's, less that thread's share, which idling held already.
    assert check is not None
    assert check.source == "the estimate from CPU time"
    assert check.ratio == pytest.approx(1.0, abs=0.35)
    assert check.agrees
    assert found.dense[0].foreign_cores is not None
