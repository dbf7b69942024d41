"""The run's metrics for Prometheus, computed from the journal at each scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from coppice_api.run import ModelFigures
from coppice_pruner.run import Journal

MAX_LAYERS = 64
"""Series of coppice_layer_energy_joules at most: the costliest layers."""
JOULES_PER_KILOWATT_HOUR = 3.6e6


class RunCollector:
    """A prometheus_client collector over one journal.

    Args:
        journal: Of the run.
        labels: On every series: which run it is, whatever Prometheus adds of the pod.
        carbon_intensity_grams_per_kilowatt_hour: None reports no grams.
    """

    def __init__(
        self,
        journal: Journal,
        labels: Mapping[str, str],
        carbon_intensity_grams_per_kilowatt_hour: int | None = None,
    ) -> None:
        self._journal, self._labels = journal, dict(labels)
        self._intensity = carbon_intensity_grams_per_kilowatt_hour

    def collect(self) -> Iterator[Metric]:
        """Yield every metric that has a value by now."""
        for family in self._families():
            family.samples = [item._replace(labels={**self._labels, **item.labels}) for item in family.samples]
            yield family

    def _families(self) -> Iterator[Metric]:
        journal = self._journal
        progress, provenance = journal.progress, journal.provenance
        yield _gauge("coppice_progress_ratio", "Progress of the run.", progress.progress_ratio)
        yield _gauge("coppice_iteration", "Pruning steps tried so far.", progress.iteration)
        yield _counter("coppice_rollbacks", "Pruning steps taken back so far.", progress.rollbacks)
        if provenance is None:
            return
        labels = {"provenance": provenance.value}
        used_joules = journal.run_energy_joules
        yield _counter("coppice_energy_joules", "Energy this run has used.", used_joules, component="run", **labels)
        if self._intensity is not None:
            grams = used_joules / JOULES_PER_KILOWATT_HOUR * self._intensity
            yield _counter("coppice_carbon_grams", "CO2 equivalent of this run's energy.", grams, **labels)
        figures = {"dense": journal.dense, "pruned": journal.pruned}
        known = {model: item for model, item in figures.items() if item is not None}
        yield from _models(known, provenance.value)
        if progress.energy_reduction_ratio is not None:
            yield _gauge(
                "coppice_energy_reduction_ratio", "Energy per inference saved against the dense model.",
                progress.energy_reduction_ratio, **labels,
            )  # fmt: skip
        if len(known) == 2:
            dense, pruned = known["dense"], known["pruned"]
            yield _gauge(
                "coppice_power_reduction_ratio", "Average power saved against the dense model (equation 5).",
                1.0 - pruned.power_watts / dense.power_watts, **labels,
            )  # fmt: skip
            yield _gauge(
                "coppice_latency_speedup_ratio", "Dense over pruned latency (equation 6).",
                dense.latency_seconds / pruned.latency_seconds,
            )  # fmt: skip
        layers = GaugeMetricFamily(
            "coppice_layer_energy_joules",
            "Energy of one inference in a layer of the dense model.",
            labels=["layer", "provenance"],
        )
        costliest = sorted(journal.layer_energies.items(), key=lambda item: -item[1])[:MAX_LAYERS]
        for layer, joules in costliest:
            layers.add_metric([layer, provenance.value], joules)
        yield layers


def _models(known: dict[str, ModelFigures], provenance: str) -> Iterator[Metric]:
    for name, text, field, labelled in (
        ("coppice_inference_energy_joules", "Energy of one inference.", "energy_joules", True),
        ("coppice_accuracy_ratio", "Accuracy on the evaluation split.", "accuracy_ratio", False),
        ("coppice_latency_seconds", "Median latency of a batch.", "latency_seconds", False),
        ("coppice_memory_bytes", "Bytes of parameters and buffers.", "memory_bytes", False),
    ):
        family = GaugeMetricFamily(name, text, labels=["model", "provenance"] if labelled else ["model"])
        for model, figures in known.items():
            family.add_metric([model, provenance] if labelled else [model], getattr(figures, field))
        yield family


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _counter(name: str, text: str, value: float, **labels: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=list(labels), created=None)
    family.add_metric(list(labels.values()), value, created=None)
    return family
