"""Dense against pruned: interleaved windows, and an interval that says what may be claimed."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coppice_pruner.measurement.paper_metrics import check_provenance
from coppice_pruner.measurement.reading import Reading, take_reading
from coppice_pruner.measurement.workload import Workload
from coppice_pruner.meters import Meter

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

    @property
    def proven(self) -> bool:
        """Whether the interval excludes zero, without which nothing is claimed."""
        return self.energy_reduction_interval[0] > 0


def compare(
    dense: Workload,
    pruned: Workload,
    meter: Meter,
    *,
    pairs: int,
    window_seconds: float,
    seed: int = 0,
    on_pair: Callable[[int], None] = lambda _pair: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Measure two workloads in turn.

    Windows go A B, B A, A B and so on: a device that warms up or a neighbour that comes and goes meets both alike.

    Args:
        dense: The reference.
        pruned: What should cost less.
        meter: Counts for both, so that the ratio never mixes two provenances.
        pairs: Of windows.
        window_seconds: Of each.
        seed: Of the resampling.
        on_pair: Told how many pairs are done.
        clock: Monotonic seconds.

    Raises:
        MeasurementFailedError: As `take_reading`.

    Source: percentile bootstrap over pairs, Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    references: list[Reading] = []
    candidates: list[Reading] = []
    for pair in range(pairs):
        order = [(dense, references), (pruned, candidates)]
        for workload, readings in order if pair % 2 == 0 else reversed(order):
            readings.append(take_reading(workload, meter, window_seconds=window_seconds, clock=clock))
        on_pair(pair + 1)
    return of_readings(references, candidates, seed=seed)


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
