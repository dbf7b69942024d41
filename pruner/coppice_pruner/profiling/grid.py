"""Measures the tables of a cost model: latency on aligned widths, joules from the profile.

E(c_in, c_out) = t(c_in, c_out) x P. A layer's power hardly depends on its widths, its time very much, and time needs
milliseconds to measure where an energy counter needs seconds. So every layer is timed on a grid of widths at the input
shape it was recorded with, and the profile's joules at full width set the scale.

Points lie on whole steps of the hardware (`staircase`), and every point is timed in turn with the full width: what is
kept is a ratio, so a machine that became slower in between bends no table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError
from coppice_pruner.profiling.cost_model import Axis, CostModel, LayerCost, Table
from coppice_pruner.profiling.layers import LayerProfile
from coppice_pruner.profiling.staircase import Staircase, shares_of
from coppice_pruner.profiling.store import TimesStore
from coppice_pruner.profiling.timing import time_in_turn
from coppice_pruner.profiling.units import (
    AttentionCore,
    Unit,
    alignment,
    channels,
    record_units,
    resized,
    signature,
    size_bytes,
)  # fmt: skip
from coppice_pruner.surgery import ChannelGroup, Side

Point = tuple[int, int]
"""Input and output channels."""

PERIOD = 4
"""A step of the hardware in multiples of what widths become multiples of: 16 floats of AVX-512, half a tile of 64."""
_LEVELS = ((0.0, 1.0), (0.0, 0.5, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0), tuple(step / 8 for step in range(9)))
"""Places of the grid points between the narrowest and the full width, coarse to fine."""
_POINT_SECONDS = (0.002, 0.05)
"""Least and most time spent on one point."""
_CHUNK_BYTES = 128 << 20
"""Weights and activations alive at once."""
_CHUNK_POINTS = 12
_MUCH_LARGER = 1.5
"""A budget so many times that of the stored times refines them."""


def build_cost_model(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    groups: Sequence[ChannelGroup],
    profiles: Sequence[LayerProfile],
    *,
    budget_seconds: float,
    multiple: int = 1,
    min_width: int = 1,
    store: TimesStore | None = None,
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
        store: Times of this machine from earlier runs; what it knows is not measured again.
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
    tables = Timings(
        units, axes, groups,
        multiple=multiple, min_width=min_width, store=store, synchronize=synchronize, clock=clock,
    )  # fmt: skip
    tables.refine(budget_seconds, weights=energies)
    layers = []
    for unit in units:
        joules = energies[unit.layer]
        table, seconds = tables.table(unit, joules=joules), tables.full_seconds(unit)
        layers.append(LayerCost(unit.layer, *axes[unit.layer], table, seconds / joules if joules else 0.0))
    whole = sum(profile.energy_joules for profile in profiles)
    alone = sum(energies.values())
    rest = max(0.0, whole - alone)
    # The rest draws what the layers draw on average; the first measurement of the whole model mends it.
    slow = sum(tables.full_seconds(unit) for unit in units) / alone if alone else 0.0
    return CostModel(
        tuple(layers), {group.name: group.width for group in groups}, rest, rest_seconds=rest * slow
    )  # fmt: skip


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


class Timings:
    """Times of every distinct kind of layer, on grids that become finer while there is time.

    Args:
        units: As recorded.
        axes: For each layer, what its inputs and outputs depend on.
        groups: Of the model.
        multiple: Widths become multiples of this.
        min_width: No group becomes narrower than this.
        store: Times of earlier runs.
        synchronize: Waits for the device.
        clock: Seconds.
    """

    def __init__(
        self, units: Sequence[Unit], axes: Mapping[str, tuple[Axis, Axis]], groups: Sequence[ChannelGroup], *,
        multiple: int, min_width: int, store: TimesStore | None, synchronize: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._synchronize, self._clock, self._store = synchronize, clock, store
        self._full = {group.name: group.width for group in groups}
        self._least = {
            group.name: 1 if group.attention else min(group.width, max(multiple, min_width, group.atom))
            for group in groups
        }
        self._multiple = multiple
        self._axes = axes
        self._units = units
        self._kinds = {unit.layer: signature(unit) for unit in units}
        self._seconds: dict[str, dict[Point, float]] = {kind: {} for kind in self._kinds.values()}
        self._budgets: dict[str, float] = {}
        """Of the stored kinds, what was spent on them."""
        self._levels = {unit.layer: 0 for unit in units}
        self._point_seconds = _POINT_SECONDS[0]
        self.measured = 0
        """Points that were timed rather than known."""

    def refine(self, budget_seconds: float, *, weights: Mapping[str, float]) -> None:
        """Measure, dearest layers first, until the budget is spent or the grids are fine enough."""
        self._recall()
        missing = sum(len(points) for points in self._missing(1).values())
        self._point_seconds = min(max(budget_seconds / max(1, 3 * missing), _POINT_SECONDS[0]), _POINT_SECONDS[1])
        # The budget is wall-clock time, whatever clock the layers are timed with.
        deadline = time.monotonic() + budget_seconds
        # One unit stands for all of its kind, which share its times.
        order = sorted(self._units, key=lambda unit: -weights[unit.layer])
        for level in range(len(_LEVELS)):
            for unit in order:
                kind = self._kinds[unit.layer]
                wanted = self._points(unit, level)
                known = all(point in self._seconds[kind] for point in wanted)
                if level and not known:
                    if time.monotonic() > deadline:
                        continue
                    if budget_seconds <= _MUCH_LARGER * self._budgets.get(kind, 0.0):
                        continue
                self._measure(unit, wanted)
                if self._levels[unit.layer] >= level - 1:
                    self._levels[unit.layer] = level
        self._keep(budget_seconds)

    def full_seconds(self, unit: Unit) -> float:
        """Return what a batch takes at the widths of the model."""
        return self._seconds[self._kinds[unit.layer]][channels(unit)]

    def table(self, unit: Unit, *, joules: float) -> Table:
        """Return a layer's table, with these joules at its full widths."""
        rows, columns = self._grid(unit, self._levels[unit.layer])
        known = self._seconds[self._kinds[unit.layer]]
        table = Table(
            rows,
            columns,
            tuple(tuple(known[row, row if unit.tied else column] for column in columns) for row in rows),
            *(self._stairs(unit, side) for side in (0, 1)),
        )
        # The full width itself need not lie on the grid.
        full = table.energy(*channels(unit))
        scale = joules / full if full > 0 else 0.0
        return Table(
            rows,
            columns,
            tuple(tuple(scale * value for value in row) for row in table.joules),
            table.in_steps,
            table.out_steps,
        )

    def _recall(self) -> None:
        for kind, known in self._seconds.items():
            stored = self._store.get(kind) if self._store else None
            if stored is not None:
                known.update({(row, column): seconds for row, column, seconds in stored.points})
                self._budgets[kind] = stored.budget_seconds

    def _keep(self, budget_seconds: float) -> None:
        if self._store is not None:
            self._store.put(
                {
                    kind: (max(budget_seconds, self._budgets.get(kind, 0.0)), seconds)
                    for kind, seconds in self._seconds.items()
                }
            )

    def _missing(self, level: int) -> dict[str, set[Point]]:
        result: dict[str, set[Point]] = {}
        for unit in self._units:
            kind = self._kinds[unit.layer]
            points = {point for point in self._points(unit, level) if point not in self._seconds[kind]}
            result.setdefault(kind, set()).update(points)
        return result

    def _points(self, unit: Unit, level: int) -> list[Point]:
        rows, columns = self._grid(unit, level)
        points = {(row, row) for row in rows} if unit.tied else {(row, column) for row in rows for column in columns}
        for side in (0, 1):
            points.update(self._inside(unit, side))
        return sorted(points)

    def _grid(self, unit: Unit, level: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        reads, writes = self._axes[unit.layer]
        rows = self._side(unit, reads, level)
        # A depthwise convolution has one width: its column is a formality.
        columns = rows[-1:] if unit.tied else self._side(unit, writes, level)
        return rows, columns

    def _side(self, unit: Unit, axis: Axis, level: int) -> tuple[int, ...]:
        low, high = axis.channels(self._least), axis.channels(self._full)
        if not axis.times or low == high:
            return (high,)
        period = self._period(unit)
        if high <= period:
            multiple = alignment(unit.modules[0], self._multiple)
            inner = {round((low + place * (high - low)) / multiple) * multiple for place in _LEVELS[level]}
            return tuple(sorted({low, high, *(point for point in inner if low < point < high)}))
        # Whole steps, the last at or above the full width; below the first step cost goes another way.
        bottom, top = low if low < period else low // period * period, -(-high // period) * period
        inner = {round((low + place * (high - low)) / period) * period for place in _LEVELS[level][1:-1]}
        if level:
            inner.add(period)
        return tuple(sorted({bottom, top, *(point for point in inner if bottom < point < top)}))

    def _period(self, unit: Unit) -> int:
        """Return the channels of one step of the hardware, as far as this layer's widths can lie on it."""
        layer = unit.modules[0]
        if isinstance(layer, AttentionCore) or unit.tied:
            return alignment(layer, self._multiple)
        period = PERIOD * self._multiple
        return period if period % alignment(layer, self._multiple) == 0 else alignment(layer, self._multiple)

    def _inside(self, unit: Unit, side: int) -> tuple[Point, ...]:
        """Return the points of one step, start and end included, that show what a layer costs within it."""
        axis, period = self._axes[unit.layer][side], self._period(unit)
        low, high = axis.channels(self._least), axis.channels(self._full)
        multiple = alignment(unit.modules[0], self._multiple)
        if unit.tied or not axis.times or period == multiple or high <= period:
            return ()
        # In the middle, but above the first step, where cost goes another way.
        start = max(period, (low + high) // 2 // period * period)
        inside = range(start, start + period + 1, multiple)
        full = channels(unit)
        return tuple((width, full[1]) if side == 0 else (full[0], width) for width in inside)

    def _stairs(self, unit: Unit, side: int) -> Staircase:
        points = self._inside(unit, side)
        if not points:
            return Staircase()
        known = self._seconds[self._kinds[unit.layer]]
        start, *between, end = (known[point] for point in points)
        return Staircase(self._period(unit), shares_of(start, tuple(between), end))

    def _measure(self, unit: Unit, points: Iterable[Point]) -> None:
        """Time what is missing, in turn with the full width."""
        known, full = self._seconds[self._kinds[unit.layer]], channels(unit)
        chunk: list[Point] = []
        samples: list[Unit] = []
        size = 0
        for point in [point for point in points if point not in known and point != full]:
            samples.append(resized(unit, in_channels=point[0], out_channels=point[1]))
            chunk.append(point)
            size += size_bytes(samples[-1])
            if size > _CHUNK_BYTES or len(chunk) >= _CHUNK_POINTS:
                self._time(unit, chunk, samples)
                chunk, samples, size = [], [], 0
        if chunk or full not in known:
            self._time(unit, chunk, samples)

    def _time(self, unit: Unit, points: Sequence[Point], samples: Sequence[Unit]) -> None:
        known, full = self._seconds[self._kinds[unit.layer]], channels(unit)
        reference = resized(unit, in_channels=full[0], out_channels=full[1])
        first, *others = time_in_turn(
            [reference.run, *(sample.run for sample in samples)],
            seconds_each=self._point_seconds, synchronize=self._synchronize, clock=self._clock,
        )  # fmt: skip
        known.setdefault(full, first)
        for point, seconds in zip(points, others, strict=True):
            known[point] = seconds / first * known[full]
        self.measured += len(points) + 1
