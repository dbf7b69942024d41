"""The five metrics of the paper, equations 4 to 8.

Two of them need a word. Equation 5 is written on power while the paper's text speaks of energy; a model that halves its
latency at equal power saves half the energy and none of the power, so both are given and named. "MSE" (equation 7) is
the storage saved, not a mean squared error; here it is called memory reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coppice_api.base import Provenance
from coppice_api.run import ModelFigures
from coppice_pruner.errors import PrunerError


class MixedProvenanceError(PrunerError):
    """A ratio of a measured and an estimated energy was asked for; it would say nothing."""


@dataclass(frozen=True)
class PaperMetrics:
    """Ratios 0..1 (the paper gives percent), and a speedup."""

    accuracy_retention_ratio: float
    """ARP, equation 4."""
    energy_reduction_ratio: float
    """EPR as the text means it: energy per inference saved."""
    power_reduction_ratio: float
    """EPR, equation 5 as printed."""
    latency_speedup_ratio: float
    """LSI, equation 6."""
    memory_reduction_ratio: float
    """MSE, equation 7."""
    carbon_reduction_ratio: float
    """CFA, equation 8, at one carbon intensity for both: then it is the energy reduction."""


def paper_metrics(
    dense: ModelFigures, pruned: ModelFigures, *, dense_provenance: Provenance, pruned_provenance: Provenance
) -> PaperMetrics:
    """Return equations 4 to 8 for a dense and a pruned model.

    Raises:
        MixedProvenanceError: If the two energies do not come from one kind of source.
    """
    check_provenance([dense_provenance, pruned_provenance])
    energy_reduction_ratio = 1.0 - pruned.energy_joules / dense.energy_joules
    return PaperMetrics(
        accuracy_retention_ratio=pruned.accuracy_ratio / dense.accuracy_ratio,
        energy_reduction_ratio=energy_reduction_ratio,
        power_reduction_ratio=1.0 - pruned.power_watts / dense.power_watts,
        latency_speedup_ratio=dense.latency_seconds / pruned.latency_seconds,
        memory_reduction_ratio=1.0 - pruned.memory_bytes / dense.memory_bytes,
        carbon_reduction_ratio=energy_reduction_ratio,
    )


def check_provenance(provenances: Sequence[Provenance]) -> None:
    """Raise unless all are the same.

    Raises:
        MixedProvenanceError: Naming those found.
    """
    found = sorted({provenance.value for provenance in provenances})
    if len(found) > 1:
        raise MixedProvenanceError(
            f"a ratio of {' and '.join(found)} energies says nothing: measure both models with one meter"
        )
