"""Measures the tables of a cost model: latency on aligned widths, joules from the profile.

E(c_in, c_out) = t(c_in, c_out) x P. A layer's power hardly depends on its widths, its time very much, and time needs
milliseconds to measure where an energy counter needs seconds. So every layer is timed on a grid of widths at the input
shape it was recorded with, and the profile's joules at full width set the scale.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.profiling.cost_model import Axis, CostModel, LayerCost, Table
from coppice_pruner.profiling.layers import LayerProfile
from coppice_pruner.profiling.units import AttentionCore, Unit, alignment, channels, record_units, resized, signature
from coppice_pruner.surgery import ChannelGroup, Side

_LEVELS = ((0.0, 1.0), (0.0, 0.5, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0), tuple(step / 8 for step in range(9)))
"""Places of the grid points between the narrowest and the full width, coarse to fine."""
_MIN_RUNS = 5
_POINT_SECONDS = (0.002, 0.05)
"""Least and most time spent on one point."""


def build_cost_model(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    groups: Sequence[ChannelGroup],
    profiles: Sequence[LayerProfile],
    *,
    budget_seconds: float,
    multiple: int = 1,
    min_width: int = 1,
    synchronize: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> CostModel:
    """Return the cost model of a model at its widths now.

    Args:
        model: The dense model; not changed.
        example_inputs: The batch that the profile was taken with.
        groups: Of this model.
        profiles: Of this model, from `profile_layers`.
        budget_seconds: Time for measuring. Layers that cost most get a finer grid first; the coarsest grid (the four
            corners of every layer) is measured in any case.
        multiple: Widths become multiples of this.
        min_width: No group becomes narrower than this.
        synchronize: Waits for the device.
        clock: Seconds; CPU seconds (`time.process_time`) suit a CPU that others use too.

    Raises:
        InputRefusedError: If a layer has no profile.
    """
    energies = _replayed_energies(profiles)
    units = record_units(model, example_inputs)
    for unit in units:
        if unit.layer not in energies:
            raise InputRefusedError(
                f"layer {unit.layer} has no profile: profile the model that the costs are built for"
            )
    axes = {unit.layer: _axes(unit, groups) for unit in units}
    tables = _Timings(units, axes, groups, multiple, min_width, synchronize, clock)
    tables.refine(budget_seconds, weights=energies)
    layers = tuple(
        LayerCost(unit.layer, *axes[unit.layer], tables.table(unit, joules=energies[unit.layer])) for unit in units
    )
    whole = sum(profile.energy_joules for profile in profiles)
    rest = max(0.0, whole - sum(energies.values()))
    return CostModel(layers, {group.name: group.width for group in groups}, rest)


def _replayed_energies(profiles: Sequence[LayerProfile]) -> dict[str, float]:
    """Return each layer's joules alone, or its scaled ones where layers alone cost more than the whole model."""
    replayed, scaled = (
        sum(item.replayed_joules for item in profiles),
        sum(item.energy_joules for item in profiles),
    )
    return {item.layer: item.replayed_joules if replayed <= scaled else item.energy_joules for item in profiles}


def _axes(unit: Unit, groups: Sequence[ChannelGroup]) -> tuple[Axis, Axis]:
    reads: dict[str, int] = {}
    writes: dict[str, int] = {}
    core = unit.modules[0]
    # Attention has the width that its output layer reads.
    read = core.output if isinstance(core, AttentionCore) else unit.layer
    for group in groups:
        for coupling in group.couplings:
            if coupling.module != read or (isinstance(core, AttentionCore) and coupling.side is not Side.INPUT):
                continue
            times = round(sum(len(indices) for indices in coupling.channels) / group.width)
            if times and coupling.side in (Side.INPUT, Side.BOTH):
                reads[group.name] = times
            if times and coupling.side in (Side.OUTPUT, Side.BOTH):
                writes[group.name] = times
    if isinstance(core, AttentionCore):
        writes = dict(reads)
    in_channels, out_channels = channels(unit)
    widths = {group.name: group.width for group in groups}
    return (
        Axis(in_channels - sum(times * widths[name] for name, times in reads.items()), reads),
        Axis(out_channels - sum(times * widths[name] for name, times in writes.items()), writes),
    )


class _Timings:
    """Times of every distinct kind of layer, on grids that become finer while there is time."""

    def __init__(
        self,
        units: Sequence[Unit],
        axes: Mapping[str, tuple[Axis, Axis]],
        groups: Sequence[ChannelGroup],
        multiple: int,
        min_width: int,
        synchronize: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._synchronize, self._clock = synchronize, clock
        self._full = {group.name: group.width for group in groups}
        self._least = {
            group.name: 1 if group.attention else min(group.width, max(multiple, min_width, group.atom))
            for group in groups
        }
        self._multiple = multiple
        self._axes = axes
        self._seconds: dict[tuple[object, ...], float] = {}
        self._levels = {unit.layer: 0 for unit in units}
        self._units = units
        self._point_seconds = _POINT_SECONDS[0]

    def refine(self, budget_seconds: float, *, weights: Mapping[str, float]) -> None:
        """Measure, dearest layers first, until the budget is spent or the grids are fine enough."""
        points = sum(len(self._points(unit, 1)) for unit in self._units)
        self._point_seconds = min(max(budget_seconds / max(1, 2 * points), _POINT_SECONDS[0]), _POINT_SECONDS[1])
        # The budget is wall-clock time, whatever clock the layers are timed with.
        deadline = time.monotonic() + budget_seconds
        order = sorted(self._units, key=lambda unit: -weights[unit.layer])
        for level in range(len(_LEVELS)):
            for unit in order:
                for point in self._points(unit, level):
                    if level and time.monotonic() > deadline:
                        return
                    self._measure(unit, point)
                self._levels[unit.layer] = level

    def table(self, unit: Unit, *, joules: float) -> Table:
        """Return a layer's table, with these joules at its full widths."""
        rows, columns = self._grid(unit, self._levels[unit.layer])
        full = self._seconds[self._key(unit, channels(unit))]
        tied = unit.tied
        return Table(
            rows,
            columns,
            tuple(
                tuple(
                    joules * self._seconds[self._key(unit, (row, row if tied else column))] / full for column in columns
                )
                for row in rows
            ),
        )

    def _points(self, unit: Unit, level: int) -> list[tuple[int, int]]:
        rows, columns = self._grid(unit, level)
        if unit.tied:
            return [(row, row) for row in rows]
        return [(row, column) for row in rows for column in columns]

    def _grid(self, unit: Unit, level: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        reads, writes = self._axes[unit.layer]
        unit_multiple = alignment(unit.modules[0], self._multiple)
        rows = self._side(reads, level, unit_multiple)
        # A depthwise convolution has one width: its column is a formality.
        columns = rows[-1:] if unit.tied else self._side(writes, level, unit_multiple)
        return rows, columns

    def _side(self, axis: Axis, level: int, multiple: int) -> tuple[int, ...]:
        low, high = axis.channels(self._least), axis.channels(self._full)
        if not axis.times or low == high:
            return (high,)
        points = {low, high}
        for place in _LEVELS[level]:
            point = round((low + place * (high - low)) / multiple) * multiple
            if low < point < high:
                points.add(point)
        return tuple(sorted(points))

    def _key(self, unit: Unit, point: tuple[int, int]) -> tuple[object, ...]:
        return (*signature(unit), point)

    def _measure(self, unit: Unit, point: tuple[int, int]) -> None:
        key = self._key(unit, point)
        if key in self._seconds:
            return
        sample = resized(unit, in_channels=point[0], out_channels=point[1])
        times: list[float] = []
        with torch.inference_mode():
            sample.run()
            sample.run()
            self._synchronize()
            until = time.monotonic() + self._point_seconds
            while len(times) < _MIN_RUNS or time.monotonic() < until:
                begin = self._clock()
                sample.run()
                self._synchronize()
                times.append(self._clock() - begin)
        # A median shrugs off what others did to the machine in between; a clock too coarse to see must not give 0.
        self._seconds[key] = max(statistics.median(times), 1e-9)
