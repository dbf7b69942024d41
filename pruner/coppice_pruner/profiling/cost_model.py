"""E_l(c_in, c_out): what every layer would cost at other widths, and so the whole model (equation 1).

A layer's table is interpolated bilinearly between measured widths. `grid` measures it; this module only computes.
The prediction proposes; the whole model's measurement decides, and `calibrate` learns from it. The same tables give
latency: a layer's time and its energy differ by its power, which hardly depends on its widths.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from coppice_pruner.profiling.lookup import Lookup
from coppice_pruner.profiling.staircase import Staircase


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

    in_channels: tuple[float, ...]
    """Ascending places, see `Staircase`; one entry where the input's width is fixed."""
    out_channels: tuple[float, ...]
    joules: tuple[tuple[float, ...], ...]
    """A row for each of `in_channels`."""
    in_steps: Staircase = field(default_factory=Staircase)
    out_steps: Staircase = field(default_factory=Staircase)

    def energy(self, in_channels: int, out_channels: int) -> float:
        """Return the energy at some widths, exact on the grid, linear beyond its ends, never negative."""
        return max(0.0, self._at(self.in_steps.place(in_channels), self.out_steps.place(out_channels)))

    def with_point(self, in_channels: int, out_channels: int, joules: float) -> Table:
        """Return a table that gives exactly this energy at these widths.

        Narrower widths are corrected by the same ratio: there the next steps go, and a point by itself would look
        cheaper than everything around it. Wider ones stay.
        """
        # A side with one entry has one width, or none of its own (depthwise convolutions).
        row = self.in_channels[0] if len(self.in_channels) == 1 else self.in_steps.place(in_channels)
        column = self.out_channels[0] if len(self.out_channels) == 1 else self.out_steps.place(out_channels)
        rows, columns = tuple(sorted({*self.in_channels, row})), tuple(sorted({*self.out_channels, column}))
        before = self._at(row, column)
        ratio = joules / before if before > 0 else 1.0

        def corrected(x: float, y: float) -> float:
            if (x, y) == (row, column):
                return joules
            return self._at(x, y) * (ratio if x <= row and y <= column else 1.0)

        return replace(
            self,
            in_channels=rows,
            out_channels=columns,
            joules=tuple(tuple(corrected(x, y) for y in columns) for x in rows),
        )

    def _at(self, row_place: float, column_place: float) -> float:
        row, row_share = locate(self.in_channels, row_place)
        column, column_share = locate(self.out_channels, column_place)
        above = self._between(row, column, column_share)
        if row_share == 0.0:
            return above
        below = self._between(row + 1, column, column_share)
        return above + row_share * (below - above)

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
    seconds_per_joule: float = 0.0
    """Seconds a batch takes over joules per inference, the layer alone."""

    def energy(self, widths: Mapping[str, int]) -> float:
        """Return the energy at the groups' widths, in joules per inference."""
        reads, writes = self.reads.channels(widths), self.writes.channels(widths)
        # Between channels that are gone there is no layer.
        return self.table.energy(reads, writes) if reads and writes else 0.0


@dataclass(frozen=True)
class Observation:
    """A measurement of the whole model."""

    widths: Mapping[str, int]
    measured_joules: float
    """Per inference."""
    measured_seconds: float | None = None
    """Per batch."""


@dataclass(frozen=True)
class CostModel:
    """Energy and latency of the whole model from the widths of its groups; implements `allocation.EnergyModel`.

    Widths are those of groups everywhere; a group left out has its width in the model this was built from, and none may
    be wider than there.
    """

    layers: tuple[LayerCost, ...]
    built_widths: Mapping[str, int]
    """Widths of the model it was built from."""
    rest_joules: float
    """Per inference, of everything that no width changes."""
    scale: float = 1.0
    """What the tables are multiplied with to agree with measurements of the whole model."""
    rest_seconds: float = 0.0
    """Per batch, of everything that no width changes."""
    seconds_scale: float = 1.0
    """As `scale`, for latency."""
    observations: tuple[Observation, ...] = ()

    def predict(self, widths: Mapping[str, int]) -> float:
        """Return the energy of the whole model in joules per inference."""
        return self.scale * float(self._lookup.joules(widths).sum()) + self.rest_joules

    def predict_choices(self, widths: Mapping[str, int], group: str, choices: Sequence[int]) -> tuple[float, ...]:
        """Return `predict` for each of several widths of one group, the others as given."""
        now, touched, then = self._lookup.choices(widths, group, choices)
        others = float(now.sum() - now[touched].sum())
        return tuple((self.scale * (others + then.sum(axis=1)) + self.rest_joules).tolist())

    def predict_each(self, widths: Mapping[str, int], others: Mapping[str, int]) -> tuple[float, ...]:
        """Return `predict` for each of several groups at another width, alone; all else as given."""
        return tuple((self.scale * self._lookup.each(widths, others) + self.rest_joules).tolist())

    def predict_seconds(self, widths: Mapping[str, int]) -> float:
        """Return the latency of one batch in seconds."""
        return self.seconds_scale * self._layers_seconds(widths) + self.rest_seconds

    def group_energy(self, widths: Mapping[str, int], group: str) -> float:
        """Return the energy of the layers that produce a group's channels, in joules per inference."""
        joules = self._lookup.joules(widths)
        return self.scale * float(sum(joules[i] for i, cost in enumerate(self.layers) if group in cost.writes.times))

    def layer_energies(self, widths: Mapping[str, int]) -> dict[str, float]:
        """Return the energy of every layer in joules per inference; with `rest_joules` they sum to `predict`."""
        return dict(zip(self._names, (self.scale * self._lookup.joules(widths)).tolist(), strict=True))

    def calibrate(
        self, widths: Mapping[str, int], measured_joules: float, measured_seconds: float | None = None
    ) -> CostModel:
        """Return a model that agrees better with a measurement of the whole model.

        Layers run faster or slower in company than alone, and what is not a layer shrinks in part with the widths.
        Both show only in the whole model: `scale` and `rest_joules` are fitted to all measurements so far by least
        squares of relative errors, neither below zero. With one measurement both move together. Seconds likewise.

        Args:
            widths: Of the model that was measured.
            measured_joules: Per inference.
            measured_seconds: Per batch; None where nobody looked.

        Raises:
            ValueError: If a measurement is not above zero.
        """
        for name, value in (("measured_joules", measured_joules), ("measured_seconds", measured_seconds)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be above zero")
        observation = Observation({**self.built_widths, **widths}, measured_joules, measured_seconds)
        return replace(self, observations=(*self.observations, observation))._fitted()

    def with_points(self, widths: Mapping[str, int], joules: Mapping[str, float]) -> CostModel:
        """Return a model whose tables hold what some layers were measured to cost at the widths of a model.

        Args:
            widths: Of the model.
            joules: For each of these layers, per inference, on the scale of its table.
        """
        here = {**self.built_widths, **widths}
        layers = tuple(
            replace(
                cost,
                table=cost.table.with_point(
                    cost.reads.channels(here), cost.writes.channels(here), joules[cost.layer]
                ),
            )
            if cost.layer in joules
            else cost
            for cost in self.layers
        )  # fmt: skip
        return replace(self, layers=layers)._fitted()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, for a checkpoint: measuring again would give other numbers and other decisions."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> CostModel:
        """Return the model that `to_dict` was called on."""
        return cls(
            **{
                **state,
                "layers": tuple(_layer_from(item) for item in state["layers"]),
                "observations": tuple(Observation(**item) for item in state["observations"]),
            }
        )

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.layers, self.built_widths)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(cost.layer for cost in self.layers)

    @cached_property
    def _seconds_per_joule(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([cost.seconds_per_joule for cost in self.layers], dtype=np.float64)

    def _layers_seconds(self, widths: Mapping[str, int]) -> float:
        return float(self._lookup.joules(widths) @ self._seconds_per_joule)

    def _fitted(self) -> CostModel:
        """Return the same with scales and rests fitted to the observations."""
        energy = [(float(self._lookup.joules(o.widths).sum()), o.measured_joules) for o in self.observations]
        times = [
            (self._layers_seconds(item.widths), item.measured_seconds)
            for item in self.observations
            if item.measured_seconds is not None
        ]
        scale, rest = _fit(energy, self.scale, self.rest_joules)
        seconds_scale, rest_seconds = _fit(times, self.seconds_scale, self.rest_seconds)
        return replace(
            self, scale=scale, rest_joules=rest, seconds_scale=seconds_scale, rest_seconds=rest_seconds
        )  # fmt: skip


def locate(points: Sequence[float], value: float) -> tuple[int, float]:
    """Return the cell that a value falls into and its place there: 0 to 1, and outside that beyond the ends."""
    if len(points) == 1:
        return 0, 0.0
    position = min(max(bisect.bisect_right(points, value) - 1, 0), len(points) - 2)
    return position, (value - points[position]) / (points[position + 1] - points[position])


def _layer_from(item: Mapping[str, Any]) -> LayerCost:
    table = item["table"]
    return LayerCost(
        item["layer"],
        Axis(item["reads"]["fixed"], dict(item["reads"]["times"])),
        Axis(item["writes"]["fixed"], dict(item["writes"]["times"])),
        Table(
            tuple(table["in_channels"]),
            tuple(table["out_channels"]),
            tuple(tuple(row) for row in table["joules"]),
            *(Staircase(table[side]["period"], tuple(table[side]["shares"])) for side in ("in_steps", "out_steps")),
        ),
        item["seconds_per_joule"],
    )


_MOST_CORRECTION = 2.0
"""How many times dearer or cheaper layers may become than the first measurement of the whole model made them."""


def _fit(measured: Sequence[tuple[float, float]], scale: float, rest: float) -> tuple[float, float]:
    """Return scale and rest, zero or more, with the least squared relative error of scale * layers + rest.

    Args:
        measured: What the tables said of all layers together, and what the whole model was measured to cost.
        scale: As it is; kept where nothing was measured, and moved together with `rest` by a single measurement.
        rest: The same.
    """
    if not measured:
        return scale, rest
    layers, whole = measured[0]
    told = scale * layers + rest
    first = (scale * whole / told, rest * whole / told) if told > 0 else (scale, whole)
    if len(measured) == 1:
        return first
    # Divided by the measurement: x * scale + y * rest = 1.
    pairs = [(layers / whole, 1.0 / whole) for layers, whole in measured]
    xx = sum(x * x for x, _ in pairs)
    xy = sum(x * y for x, y in pairs)
    yy = sum(y * y for _, y in pairs)
    x1, y1 = sum(x for x, _ in pairs), sum(y for _, y in pairs)
    determinant = xx * yy - xy * xy
    # Measurements of nearly one model cannot tell scale from rest.
    scale = (x1 * yy - y1 * xy) / determinant if determinant > 1e-6 * xx * yy else first[0]
    # One bad measurement must not say that widths cost nothing: then there would be nothing left to remove.
    scale = min(max(scale, first[0] / _MOST_CORRECTION), first[0] * _MOST_CORRECTION)
    rest = max(0.0, (y1 - scale * xy) / yy)
    return (scale, rest) if rest or not xx else (x1 / xx, 0.0)
