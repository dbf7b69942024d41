"""Dense against pruned: interleaved windows, and an interval that says what may be claimed."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from coppice_pruner.measurement.pairing import fault
from coppice_pruner.measurement.paper_metrics import check_provenance
from coppice_pruner.measurement.reading import FEW_TICKS, MIN_TICKS, Reading, take_reading
from coppice_pruner.measurement.workload import Workload
from coppice_pruner.meters import Meter

SHORT_PAIRS = 12
"""Pairs that a quick comparison is split into. Of 60 comparisons by the estimate on 2 busy cores, alternating in time,
3 pairs of 0.4 s had a standard deviation of 3.0 points and 12 pairs of 0.1 s one of 1.2; of 40 some minutes earlier,
1.5 and 1.4. The median of the pairs' ratios in place of the ratio of their sums is no better: 3.1 and 1.2, then 2.0 and
1.3."""
_RESAMPLES = 2000
_INTERVAL = 0.95


@dataclass(frozen=True)
class Comparison:
    """Pairs of readings, each of two windows next to each other in time."""

    dense: tuple[Reading, ...]
    pruned: tuple[Reading, ...]
    energy_reduction_ratio: float
    """1 - pruned / dense, energy per inference, over all pairs."""
    energy_reduction_interval: tuple[float, float]
    """95 % bootstrap interval of it, pairs resampled together."""
    rejected: tuple[str, ...] = ()
    """Why windows were thrown away and taken again, one for each."""
    doubts: tuple[str, ...] = ()
    """Why pairs that were kept are not quite fair, one for each: what drifts every time is no accident, but what one of
    the models does to the device."""

    @property
    def proven(self) -> bool:
        """Whether the interval excludes zero, without which nothing is claimed."""
        return self.energy_reduction_interval[0] > 0

    @property
    def readings(self) -> tuple[Reading, ...]:
        """All windows that count."""
        return self.dense + self.pruned


def compare(
    dense: Workload,
    pruned: Workload,
    meter: Meter,
    *,
    pairs: int,
    window_seconds: float,
    min_ticks: int = MIN_TICKS,
    seed: int = 0,
    on_pair: Callable[[int], None] = lambda _pair: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Measure two workloads in turn.

    Windows go A B, B A, A B and so on: a device that warms up or a neighbour that comes and goes meets both alike. A
    pair whose windows met a different device (`pairing`) is taken again, at most as often as there are pairs.

    Args:
        dense: The reference.
        pruned: What should cost less.
        meter: Counts for both, so that the ratio never mixes two provenances.
        pairs: Of windows.
        window_seconds: Of each.
        min_ticks: As for `take_reading`.
        seed: Of the resampling.
        on_pair: Told how many pairs are done.
        clock: Monotonic seconds.

    Raises:
        MeasurementFailedError: As `take_reading`.
        CounterStuckError: As `take_reading`.

    Source: percentile bootstrap over pairs, Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    references: list[Reading] = []
    candidates: list[Reading] = []
    rejected: list[str] = []
    doubts: list[str] = []
    spare = pairs
    while len(references) < pairs:
        turn = len(references)
        order = (dense, pruned) if turn % 2 == 0 else (pruned, dense)
        taken = [
            take_reading(workload, meter, window_seconds=window_seconds, min_ticks=min_ticks, clock=clock)
            for workload in order
        ]
        reference, candidate = taken if turn % 2 == 0 else reversed(taken)
        rejected += [*reference.rejected, *candidate.rejected]
        why = fault(reference, candidate)
        if why and spare:
            spare -= 1
            rejected += [why, why]
            continue
        doubts += [why] if why else []
        references.append(reference)
        candidates.append(candidate)
        on_pair(turn + 1)
    found = of_readings(references, candidates, seed=seed)
    return replace(found, rejected=tuple(rejected), doubts=tuple(doubts))


def many_short(meter: Meter, *, pairs: int, window_seconds: float) -> tuple[int, float]:
    """Return pairs and window of a comparison that takes as long, in windows as short as the counter allows.

    What disturbs a machine lasts longer than a short window, so it meets both of a pair alike.

    Args:
        meter: A counter that moves in steps needs `FEW_TICKS` of them in a window.
        pairs: Of the long windows.
        window_seconds: Of each.
    """
    total_seconds = pairs * window_seconds
    shortest_seconds = max(total_seconds / SHORT_PAIRS, FEW_TICKS * meter.update_period_seconds)
    return max(pairs, min(SHORT_PAIRS, round(total_seconds / shortest_seconds))), shortest_seconds


def interleaved(
    workloads: Sequence[Workload],
    meter: Meter,
    *,
    rounds: int,
    window_seconds: float,
    min_ticks: int = MIN_TICKS,
    on_round: Callable[[int], None] = lambda _round: None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[tuple[Reading, ...], ...]:
    """Measure any number of workloads in turn, every other round backwards; any two of them may then be compared.

    Args:
        workloads: What is measured.
        meter: Counts for all.
        rounds: Windows of each.
        window_seconds: Of each.
        min_ticks: As for `take_reading`.
        on_round: Told how many rounds are done.
        clock: Monotonic seconds.

    Returns:
        For each workload its readings, in the order they were taken.

    Raises:
        MeasurementFailedError: As `take_reading`.
    """
    taken: list[list[Reading]] = [[] for _ in workloads]
    for number in range(rounds):
        order = list(zip(workloads, taken, strict=True))
        for workload, readings in order if number % 2 == 0 else reversed(order):
            readings.append(
                take_reading(workload, meter, window_seconds=window_seconds, min_ticks=min_ticks, clock=clock)
            )
        on_round(number + 1)
    return tuple(map(tuple, taken))


def of_readings(dense: Sequence[Reading], pruned: Sequence[Reading], *, seed: int = 0) -> Comparison:
    """Return the comparison of readings taken in pairs.

    Raises:
        MixedProvenanceError: If they do not all have one provenance.
    """
    check_provenance([reading.provenance for reading in (*dense, *pruned)])
    draw = random.Random(seed)  # noqa: S311 - statistics, not secrets
    places = range(len(dense))
    resampled = sorted(_reduction(dense, pruned, draw.choices(places, k=len(places))) for _ in range(_RESAMPLES))
    tail = round((1 - _INTERVAL) / 2 * _RESAMPLES)
    return Comparison(
        tuple(dense),
        tuple(pruned),
        _reduction(dense, pruned, places),
        (resampled[tail], resampled[-1 - tail]),
    )


def average(readings: Sequence[Reading]) -> Reading:
    """Return one reading for several of the same workload: total joules over total inferences, median latency."""
    inferences = sum(reading.inferences for reading in readings)
    seconds = sum(reading.seconds for reading in readings)
    joules = sum(reading.energy_joules * reading.inferences for reading in readings)
    return Reading(
        joules / inferences,
        joules / seconds,
        statistics.median(reading.latency_seconds for reading in readings),
        inferences,
        seconds,
        readings[0].provenance,
    )


def _reduction(dense: Sequence[Reading], pruned: Sequence[Reading], chosen: Sequence[int]) -> float:
    """Return the reduction over some pairs, every pair with equal weight."""
    return 1.0 - sum(pruned[place].energy_joules for place in chosen) / sum(
        dense[place].energy_joules for place in chosen
    )
