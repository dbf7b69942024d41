"""Timing of small pieces of work against each other, on a machine that others use too.

The pieces run in turn, round after round: what disturbs one disturbs its neighbours. Disturbances only ever add, so
the first decile of the rounds repeats best: over six trials on two cores with a load of five, 1.5 % in the median
against 1.6 % for the median of the rounds, and 5 % against 10 % in nine trials of ten. Pieces shorter than the clock
can see are repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from coppice_pruner.profiling.allocator import keep_freed_memory

LEAST_ROUNDS = 5
_LEAST_SECONDS = 1e-4
"""A piece is repeated to last about this long, a few hundred times what reading a clock takes."""
_MOST_REPEATS = 20
_LEAST_SEEN = 1e-9
"""A clock too coarse to see must not give 0."""
_QUANTILE = 0.1


def time_in_turn(
    pieces: Sequence[Callable[[], None]],
    *,
    seconds_each: float,
    synchronize: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, ...]:
    """Return the seconds of one undisturbed run of each piece.

    Args:
        pieces: Work that may be repeated.
        seconds_each: Time to spend on each, at least `LEAST_ROUNDS` rounds whatever it takes.
        synchronize: Waits for the device.
        clock: Seconds; CPU seconds (`time.process_time`) suit a CPU that others use too.
    """

    def run(piece: Callable[[], None], times: int) -> float:
        # The one before it left its own data in the caches; in a model a layer finds what it reads there.
        piece()
        synchronize()
        begin = clock()
        for _ in range(times):
            piece()
        synchronize()
        return (clock() - begin) / times

    keep_freed_memory()
    seconds: list[list[float]] = [[] for _ in pieces]
    with torch.inference_mode():
        repeats = [
            min(_MOST_REPEATS, max(1, round(_LEAST_SECONDS / max(run(piece, 1), _LEAST_SEEN)))) for piece in pieces
        ]
        # What to spend is wall-clock time, whatever clock the pieces are timed with.
        until = time.monotonic() + seconds_each * len(pieces)
        rounds = 0
        while rounds < LEAST_ROUNDS or time.monotonic() < until:
            for piece, times, found in zip(pieces, repeats, seconds, strict=True):
                found.append(run(piece, times))
            rounds += 1
    return tuple(max(sorted(found)[int(_QUANTILE * len(found))], _LEAST_SEEN) for found in seconds)
