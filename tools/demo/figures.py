"""What the fleet's own meters say, asked of Prometheus."""

from __future__ import annotations

import math
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

from demo.shell import DemoError
from observability.answers import UnansweredError, result_of

BIN_SECONDS = 4
"""Length of the windows that the interval is computed from; the fleet is scraped every second."""
MIN_WINDOWS = 3
"""Of which an interval can be made."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class FleetFigures:
    """The fleet over a time, all pods together."""

    accuracy: float
    energy_joules: float
    """Per inference."""
    latency_seconds: float
    """Mean of a request, queueing included."""
    memory_bytes: int
    provenance: str
    bins_joules: tuple[float, ...]
    """Energy per inference in each of several windows that do not overlap."""


class Prometheus:
    """A Prometheus.

    Args:
        address: Base URL.
        namespace: Of the fleet.
    """

    def __init__(self, address: str, namespace: str) -> None:
        self.address, self._namespace = address, namespace

    def figures(self, digest: str, seconds: int) -> FleetFigures:
        """Return the fleet's figures over the last seconds.

        Args:
            digest: Label of the model that is meant.
            seconds: How far back.

        Raises:
            DemoError: If a figure is missing.
        """
        labels = f'namespace="{self._namespace}",digest="{digest}"'
        energy, inferences = (
            f"coppice_served_energy_joules_total{{{labels}}}",
            f"coppice_served_inferences_total{{{labels}}}",
        )
        duration = "coppice_served_request_duration_seconds"
        whole = f"[{seconds}s]"
        series = self._query(f"sum by (provenance) (rate({energy}{whole}))")
        return FleetFigures(
            accuracy=self._one(f"min(coppice_served_accuracy_ratio{{{labels}}})"),
            energy_joules=self._one(f"sum(rate({energy}{whole})) / sum(rate({inferences}{whole}))"),
            latency_seconds=self._one(
                f"sum(rate({duration}_sum{{{labels}}}{whole})) / sum(rate({duration}_count{{{labels}}}{whole}))"
            ),
            memory_bytes=round(self._one(f"max(coppice_served_memory_bytes{{{labels}}})")),
            provenance=", ".join(item["metric"].get("provenance", "") for item in series),
            bins_joules=self._bins(energy, inferences, seconds),
        )

    def has(self, digest: str) -> bool:
        """Return whether the model's accuracy has been probed by every pod that serves it."""
        labels = f'namespace="{self._namespace}",digest="{digest}"'
        pods = self._query(f"count(coppice_served_model_info{{{labels}}})")
        probed = self._query(f"count(coppice_served_accuracy_ratio{{{labels}}})")
        return bool(pods) and bool(probed) and pods[0]["value"][1] == probed[0]["value"][1]

    def digests_by_pod(self) -> dict[str, str]:
        """Return the digest that every pod says it serves."""
        found = self._query(f'coppice_served_model_info{{namespace="{self._namespace}"}}')
        return {item["metric"]["pod"]: item["metric"]["digest"] for item in found}

    def _bins(self, energy: str, inferences: str, seconds: int) -> tuple[float, ...]:
        end = time.time()
        bins = f"[{BIN_SECONDS}s]"
        parameters = {
            "query": f"sum(rate({energy}{bins})) / sum(rate({inferences}{bins}))",
            "start": f"{end - seconds + BIN_SECONDS:.3f}",
            "end": f"{end:.3f}",
            "step": str(BIN_SECONDS),
        }
        result = self._ask("query_range", parameters)
        values = [float(value) for item in result for _, value in item["values"]]
        return tuple(value for value in values if math.isfinite(value))

    def _one(self, query: str) -> float:
        result = self._query(query)
        value = float(result[0]["value"][1]) if result else math.nan
        if not math.isfinite(value):
            raise DemoError(f"Prometheus at {self.address} has no figure for {query}")
        return value

    def _query(self, query: str) -> list[Any]:
        return self._ask("query", {"query": query})

    def _ask(self, kind: str, parameters: dict[str, str]) -> list[Any]:
        try:
            return result_of(self.address, kind, **parameters)
        except UnansweredError as error:
            raise DemoError(str(error)) from error


def reduction(dense: FleetFigures, pruned: FleetFigures) -> tuple[float, tuple[float, float]]:
    """Return the energy saved per inference and its 95 % bootstrap interval over the windows of both.

    Raises:
        DemoError: If there are too few windows, or the two do not have one provenance.
    """
    if dense.provenance != pruned.provenance or "," in dense.provenance:
        raise DemoError(f"energies of provenance {dense.provenance!r} and {pruned.provenance!r} make no ratio")
    if min(len(dense.bins_joules), len(pruned.bins_joules)) < MIN_WINDOWS:
        raise DemoError("too few windows for an interval: Prometheus missed scrapes")
    draw = random.Random(0)

    def mean(values: tuple[float, ...]) -> float:
        return statistics.fmean(draw.choices(values, k=len(values)))

    found = sorted(1 - mean(pruned.bins_joules) / mean(dense.bins_joules) for _ in range(_RESAMPLES))
    tail = round(0.025 * _RESAMPLES)
    return 1 - pruned.energy_joules / dense.energy_joules, (found[tail], found[-1 - tail])
