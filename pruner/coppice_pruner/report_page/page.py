"""What a report can show. The caller fills in what it has; what is absent is left out of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coppice_api.base import Provenance
from coppice_api.run import ModelFigures, Outcome, RunConfig


@dataclass(frozen=True)
class Interval:
    """A 95 % bootstrap interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Fact:
    """A name and its value, both for a person."""

    name: str
    value: str
    exact: bool = False
    """Whether the value is a digest, an address or the like, to be set in a fixed width."""


@dataclass(frozen=True)
class ModelRow:
    """The figures of one model."""

    energy_joules: float
    """Per inference."""
    power_watts: float
    """Average while inferring."""
    latency_seconds: float
    """Median of a batch of `Measurement.batch_size`."""
    memory_bytes: int
    parameters: int
    accuracy_ratio: float | None = None
    perplexity: float | None = None
    """Of a language model."""
    single_latency_seconds: float | None = None
    """Median of a batch of 1."""
    single_energy_joules: float | None = None
    """Per inference at batch 1."""

    @classmethod
    def of(
        cls, figures: ModelFigures, *, single_latency_seconds: float | None = None,
        single_energy_joules: float | None = None,
    ) -> ModelRow:  # fmt: skip
        """Return the row of a model's figures."""
        return cls(
            figures.energy_joules, figures.power_watts, figures.latency_seconds, figures.memory_bytes,
            figures.parameters, figures.accuracy_ratio, figures.perplexity, single_latency_seconds,
            single_energy_joules,
        )  # fmt: skip


@dataclass(frozen=True)
class Saving:
    """What something other than pruning saved by itself. It is shown apart and never counted as pruning's."""

    name: str
    """For example "Folding normalisation into the layers before it"."""
    energy_reduction_ratio: float
    interval: Interval | None = None
    note: str = ""
    """Against what it was measured, or in which figures it is contained."""


@dataclass(frozen=True)
class QuantizationRow:
    """One way of saving energy: pruning, 8-bit integers, or both."""

    name: str
    energy_reduction_ratio: float
    """Against the dense model."""
    interval: Interval | None = None
    accuracy_ratio: float | None = None
    perplexity: float | None = None


@dataclass(frozen=True)
class IntegerTrial:
    """A scheme tried on the model that the loop arrived at, in the short comparison."""

    name: str
    energy_reduction_ratio: float | None = None
    """Against that model without it; None where it could not run."""
    interval: Interval | None = None
    note: str = ""
    """How its answers broke the budget, or why it could not run."""


@dataclass(frozen=True)
class QuantizationPart:
    """What 8-bit linear layers gave."""

    verdict: str
    """Whether they were kept, and why not."""
    rows: tuple[QuantizationRow, ...] = ()
    trials: tuple[IntegerTrial, ...] = ()


@dataclass(frozen=True)
class Step:
    """One pruning step."""

    number: int
    accepted: bool
    predicted_reduction_ratio: float
    """Energy saved against the dense model, as the cost model said before."""
    energy_reduction_ratio: float | None = None
    """As the meter said; None where the step was taken back before measuring."""
    interval: Interval | None = None
    """Of `energy_reduction_ratio`."""
    accuracy_ratio: float | None = None
    perplexity: float | None = None
    reason: str = ""
    """Why it was taken back; how it breaks the accuracy budget where it was kept for now."""
    fine_tunings: int = 1
    """Spent on it."""
    again: bool = False
    """Whether it prunes nothing: the model of an earlier step was fine-tuned further."""


@dataclass(frozen=True)
class LayerEnergy:
    """One layer's energy per inference."""

    name: str
    dense_joules: float
    pruned_joules: float | None = None
    """0 for a layer that was removed, None where it is not known."""


@dataclass(frozen=True)
class GroupWidth:
    """Channels (or heads, or neurons) of one group of coupled layers."""

    name: str
    dense: int
    pruned: int


@dataclass(frozen=True)
class Prediction:
    """What the cost model said of a model, and what the meter said."""

    name: str
    predicted_joules: float
    measured_joules: float


@dataclass(frozen=True)
class Pair:
    """Two windows next to each other in time, joules per inference."""

    dense_joules: float
    pruned_joules: float


@dataclass(frozen=True)
class Conditions:
    """The device while it was measured. Ranges are (least, greatest) over the windows."""

    temperature_celsius: tuple[float, float] | None = None
    clock_mhz: tuple[float, float] | None = None
    power_limit_watts: float | None = None
    throttled_windows: int | None = None
    """Windows rejected and taken again because the device throttled."""
    throttle_reasons: tuple[str, ...] = ()
    shared_with: tuple[str, ...] | None = None
    """Other processes on the device; empty: looked for and none found; None: not looked for."""
    cross_check_ratio: float | None = None
    """Joules of the meter over joules of the second source."""
    cross_check_source: str = ""
    """For example "power samples"."""
    cross_check_note: str = ""
    """What a reader must know of the second source."""
    facts: tuple[Fact, ...] = ()
    """What else is known, for example the driver's version."""


@dataclass(frozen=True)
class Carbon:
    """Of the electricity. Without an intensity no grams are claimed, so there is no Carbon then."""

    intensity_grams_per_kilowatt_hour: float
    source: str = ""
    """Who says so."""
    date: str = ""
    """Of when, as the source gives it."""
    power_usage_effectiveness: float | None = None
    """Energy of the building over energy of the device; None counts the device alone."""

    def grams(self, energy_joules: float) -> float:
        """Return the grams of CO2 equivalent for an energy of the device."""
        kilowatt_hours = energy_joules / 3.6e6
        return kilowatt_hours * self.intensity_grams_per_kilowatt_hour * (self.power_usage_effectiveness or 1.0)


@dataclass(frozen=True)
class RunCost:
    """What finding the pruned model cost."""

    energy_joules: float | None = None
    duration_seconds: float | None = None
    break_even_inferences: int | None = None
    """Inferences of the pruned model after which `energy_joules` is paid back."""
    phase_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportPage:
    """Everything that the page may show."""

    config: RunConfig
    """What was asked; the page gives it back as the PruneJob that repeats the run."""
    outcome: Outcome
    message: str
    """The verdict in one sentence."""
    provenance: Provenance
    """Of every joule on the page."""
    meter: str = ""
    device: str = ""
    created_at: str = ""
    """RFC 3339, UTC."""
    dense: ModelRow | None = None
    pruned: ModelRow | None = None
    energy_reduction_ratio: float | None = None
    """Of the full comparison at the end."""
    energy_reduction_interval: Interval | None = None
    single_energy_reduction_ratio: float | None = None
    """Of the comparison at batch 1."""
    single_energy_reduction_interval: Interval | None = None
    savings: tuple[Saving, ...] = ()
    quantization: QuantizationPart | None = None
    """None where nobody asked for it."""
    steps: tuple[Step, ...] = ()
    layers: tuple[LayerEnergy, ...] = ()
    """In any order; the page shows the largest."""
    widths: tuple[GroupWidth, ...] = ()
    """In the order of the model."""
    predictions: tuple[Prediction, ...] = ()
    layer_prediction_error_ratio: float | None = None
    """Of the tables, for the layers of the pruned model measured again: the median."""
    pairs: tuple[Pair, ...] = ()
    """Of the full comparison, in the order they were taken."""
    conditions: Conditions | None = None
    carbon: Carbon | None = None
    run_cost: RunCost | None = None
    origin: tuple[Fact, ...] = ()
    """Digests of model, data and bundle, and versions of what ran."""
