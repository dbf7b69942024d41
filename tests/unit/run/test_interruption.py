"""A run that is told to stop, stops: also when a library swallows what the signal raised."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import pytest

from coppice_api.run import Phase
from coppice_pruner.run import Interrupted, Interruption, Journal, execute, execution
from tests import machine


def test_a_swallowed_interruption_comes_back_at_the_next_word() -> None:
    interruption = Interruption()
    journal = Journal(20, interruption=interruption)
    before = signal.getsignal(signal.SIGUSR1)
    interruption.on(signal.SIGUSR1)
    try:
        # What a bare `except:` does, such as the one in Torch-Pruning's tracer.
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(Interrupted):
            journal.enter(Phase.PRUNING, "on and on")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_error_made_of_an_interruption_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(20)

    def swallow(*_: object, **__: object) -> None:
        journal.interruption.requested = True
        raise RuntimeError("the model cannot be traced")

    monkeypatch.setattr(execution, "open_place", swallow)
    with pytest.raises(Interrupted):
        execute(machine.config(tmp_path), journal)
