"""E_l(c_in, c_out): what every layer would cost at other widths, and so the whole model (equation 1).

A layer's table is interpolated bilinearly between measured widths. `grid` measures it; this module only computes.
The prediction proposes; the whole model's measurement decides, and `calibrate` learns from it.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Axis:
    """How many channels one side of a layer has, from the widths of the groups: fixed + sum of times * width."""

    fixed: int
    times: Mapping[str, int] = field(default_factory=dict)
    """For each group, how many of the layer's channels go with one of its own (16 behind a flatten of 4x4 maps)."""

    def channels(self, widths: Mapping[str, int]) -> int:
        """Return the channels at these widths."""
        return self.fixed + sum(times * widths[group] for group, times in self.times.items())


@dataclass(frozen=True)
class Table:
    """Energy on a grid of input and output channels, in joules per inference."""

    in_channels: tuple[int, ...]
    """Ascending; one entry where the input's width is fixed."""
    out_channels: tuple[int, ...]
    joules: tuple[tuple[float, ...], ...]
    """A row for each of `in_channels`."""

    def energy(self, in_channels: int, out_channels: int) -> float:
        """Return the energy at some widths, exact on the grid, linear beyond its ends, never negative."""
        row, row_share = _locate(self.in_channels, in_channels)
        column, column_share = _locate(self.out_channels, out_channels)
        above = self._between(row, column, column_share)
        if row_share == 0.0:
            return max(0.0, above)
        below = self._between(row + 1, column, column_share)
        return max(0.0, above + row_share * (below - above))

    def _between(self, row: int, column: int, share: float) -> float:
        values = self.joules[row]
        return values[column] if share == 0.0 else values[column] + share * (values[column + 1] - values[column])


@dataclass(frozen=True)
class LayerCost:
    """One layer: its widths from the groups', its cost from its widths."""

    layer: str
    reads: Axis
    writes: Axis
    table: Table

    def energy(self, widths: Mapping[str, int]) -> float:
        """Return the energy at the groups' widths, in joules per inference."""
        reads, writes = self.reads.channels(widths), self.writes.channels(widths)
        # Between channels that are gone there is no layer.
        return self.table.energy(reads, writes) if reads and writes else 0.0


@dataclass(frozen=True)
class Observation:
    """A measurement of the whole model."""

    layers_joules: float
    """What the tables said of all layers together."""
    measured_joules: float


@dataclass(frozen=True)
class CostModel:
    """Energy of the whole model from the widths of its groups; implements `allocation.EnergyModel`."""

    layers: tuple[LayerCost, ...]
    built_widths: Mapping[str, int]
    """Widths of the model it was built from; a group left out of a question has these."""
    rest_joules: float
    """Per inference, of everything that no width changes."""
    scale: float = 1.0
    """What the tables are multiplied with to agree with measurements of the whole model."""
    observations: tuple[Observation, ...] = ()

    def predict(self, widths: Mapping[str, int]) -> float:
        """Return the energy of the whole model in joules per inference.

        Args:
            widths: Of the groups; a group left out has its width in the model this was built from.
        """
        return self.scale * self._layers_joules({**self.built_widths, **widths}) + self.rest_joules

    def predict_choices(self, widths: Mapping[str, int], group: str, choices: Sequence[int]) -> tuple[float, ...]:
        """Return `predict` for each of several widths of one group, the others as given."""
        here = {**self.built_widths, **widths}
        touched = [cost for cost in self.layers if group in cost.reads.times or group in cost.writes.times]
        others = self._layers_joules(here) - sum(cost.energy(here) for cost in touched)
        result = []
        for choice in choices:
            here[group] = choice
            result.append(self.scale * (others + sum(cost.energy(here) for cost in touched)) + self.rest_joules)
        return tuple(result)

    def group_energy(self, widths: Mapping[str, int], group: str) -> float:
        """Return the energy of the layers that produce a group's channels, in joules per inference."""
        here = {**self.built_widths, **widths}
        return self.scale * sum(cost.energy(here) for cost in self.layers if group in cost.writes.times)

    def layer_energies(self, widths: Mapping[str, int]) -> dict[str, float]:
        """Return the energy of every layer in joules per inference; with `rest_joules` they sum to `predict`."""
        here = {**self.built_widths, **widths}
        return {cost.layer: self.scale * cost.energy(here) for cost in self.layers}

    def calibrate(self, widths: Mapping[str, int], measured_joules: float) -> CostModel:
        """Return a model that agrees better with a measurement of the whole model.

        Layers run faster or slower in company than alone, and what is not a layer shrinks in part with the widths.
        Both show only in the whole model: `scale` and `rest_joules` are fitted to all measurements so far by least
        squares of relative errors, neither below zero. With one measurement both move together.

        Args:
            widths: Of the model that was measured.
            measured_joules: Per inference.

        Raises:
            ValueError: If the measurement is not above zero.
        """
        if not measured_joules > 0:
            raise ValueError(f"measured_joules is {measured_joules}; it must be above zero")
        layers = self._layers_joules({**self.built_widths, **widths})
        observations = (*self.observations, Observation(layers, measured_joules))
        if len(observations) == 1:
            factor = measured_joules / self.predict(widths)
            return replace(
                self, scale=self.scale * factor, rest_joules=self.rest_joules * factor, observations=observations
            )
        scale, rest = _fit(observations)
        return replace(self, scale=scale, rest_joules=rest, observations=observations)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, for a checkpoint: measuring again would give other numbers and other decisions."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> CostModel:
        """Return the model that `to_dict` was called on."""
        return cls(
            layers=tuple(
                LayerCost(
                    item["layer"],
                    Axis(item["reads"]["fixed"], dict(item["reads"]["times"])),
                    Axis(item["writes"]["fixed"], dict(item["writes"]["times"])),
                    Table(
                        tuple(item["table"]["in_channels"]),
                        tuple(item["table"]["out_channels"]),
                        tuple(tuple(row) for row in item["table"]["joules"]),
                    ),
                )
                for item in state["layers"]
            ),
            built_widths=dict(state["built_widths"]),
            rest_joules=state["rest_joules"],
            scale=state["scale"],
            observations=tuple(Observation(**item) for item in state["observations"]),
        )

    def _layers_joules(self, widths: Mapping[str, int]) -> float:
        return sum(cost.energy(widths) for cost in self.layers)


def _locate(points: tuple[int, ...], value: int) -> tuple[int, float]:
    """Return the cell that a value falls into and its place there: 0 to 1, and outside that beyond the ends."""
    if len(points) == 1:
        return 0, 0.0
    position = min(max(bisect.bisect_right(points, value) - 1, 0), len(points) - 2)
    return position, (value - points[position]) / (points[position + 1] - points[position])


def _fit(observations: Sequence[Observation]) -> tuple[float, float]:
    """Return scale and rest, zero or more, with the least squared relative error of scale * layers + rest."""
    # Divided by the measurement: x * scale + y * rest = 1.
    pairs = [(item.layers_joules / item.measured_joules, 1.0 / item.measured_joules) for item in observations]
    xx = sum(x * x for x, _ in pairs)
    xy = sum(x * y for x, y in pairs)
    yy = sum(y * y for _, y in pairs)
    x1, y1 = sum(x for x, _ in pairs), sum(y for _, y in pairs)
    determinant = xx * yy - xy * xy
    # Measurements of nearly one model cannot tell scale from rest.
    if determinant > 1e-6 * xx * yy:
        scale, rest = (x1 * yy - y1 * xy) / determinant, (y1 * xx - x1 * xy) / determinant
        if scale >= 0 and rest >= 0:
            return scale, rest
        if scale < 0:
            return 0.0, y1 / yy
    return x1 / xx, 0.0
