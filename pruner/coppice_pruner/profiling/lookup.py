"""Energies of all layers at once: the tables of a cost model as flat arrays.

An allocation asks for tens of thousands of predictions. Every width that a layer may have is located in its table once,
here; a question is then four gathers and a few multiplications for all layers together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from coppice_pruner.profiling.cost_model import Axis, LayerCost

_Floats = NDArray[np.float64]
_Integers = NDArray[np.intp]


class _State(NamedTuple):
    """The layers at some widths."""

    widths: tuple[int, ...]
    reads: _Integers
    writes: _Integers
    joules: _Floats


class Lookup:
    """The layers of a cost model, for widths up to the ones it was built with.

    Args:
        layers: With their tables.
        built_widths: Of all groups.
    """

    def __init__(self, layers: Sequence[LayerCost], built_widths: Mapping[str, int]) -> None:
        self._built = dict(built_widths)
        self._position = {name: index for index, name in enumerate(self._built)}
        self._reads, self._writes = (
            _Side([getattr(cost, side) for cost in layers], self._built) for side in ("reads", "writes")
        )
        rows, columns = ([getattr(cost.table, name) for cost in layers] for name in ("in_channels", "out_channels"))
        self._reads.locate([cost.table.in_steps for cost in layers], rows)
        self._writes.locate([cost.table.out_steps for cost in layers], columns)
        self._columns = np.array([len(item) for item in columns], dtype=np.intp)
        # To the neighbour in the table; a layer of one row or column has none and is its own.
        self._down = np.where(np.array([len(item) for item in rows]) > 1, self._columns, 0).astype(np.intp)
        self._right = np.where(self._columns > 1, 1, 0).astype(np.intp)
        values = [np.array(cost.table.joules, dtype=np.float64).ravel() for cost in layers]
        self._values = np.concatenate(values) if values else np.zeros(0)
        self._begin = np.concatenate(([0], np.cumsum([len(item) for item in values])))[:-1].astype(np.intp)
        touched = (self._reads.times != 0) | (self._writes.times != 0)
        self._touched = [np.flatnonzero(touched[:, index]) for index in range(len(self._built))]
        # All of these in a row, and whose they are.
        self._all_owners, self._all_touched = np.nonzero(touched.T)
        self._last: _State | None = None

    def joules(self, widths: Mapping[str, int]) -> _Floats:
        """Return the energy of every layer, in joules per inference, not scaled; shape (layers,)."""
        return self._state(widths).joules

    def choices(
        self, widths: Mapping[str, int], group: str, choices: Sequence[int]
    ) -> tuple[_Floats, _Integers, _Floats]:
        """Return what changes with the width of one group, the others as given.

        Returns:
            As `joules`, the layers that the group touches, shape (T,), and their joules at each choice, shape (C, T).
        """
        state, index = self._state(widths), self._position[group]
        touched = self._touched[index]
        more = np.array(choices, dtype=np.intp)[:, None] - state.widths[index]
        return state.joules, touched, self._changed(state, touched, index, more)

    def each(self, widths: Mapping[str, int], others: Mapping[str, int]) -> _Floats:
        """Return the energy of all layers when one group alone has another width, for several groups in turn.

        Args:
            widths: Of all groups.
            others: The other width of each group that is asked about.

        Returns:
            In joules per inference, not scaled, in the order of `others`.
        """
        state, touched, owners = self._state(widths), self._all_touched, self._all_owners
        more = np.zeros(len(self._built), dtype=np.intp)
        asked = [self._position[name] for name in others]
        more[asked] = [width - state.widths[index] for index, width in zip(asked, others.values(), strict=True)]
        changes = self._changed(state, touched, owners, more[owners]) - state.joules[touched]
        result: _Floats = state.joules.sum() + np.bincount(owners, changes, minlength=len(more))[asked]
        return result

    def _changed(self, state: _State, layers: _Integers, groups: _Integers | int, more: _Integers) -> _Floats:
        """Return the energy of some layers, each with so many channels more in one of its groups."""
        reads = state.reads[layers] + more * self._reads.times[layers, groups]
        writes = state.writes[layers] + more * self._writes.times[layers, groups]
        return self._energies(layers, reads, writes)

    def _state(self, widths: Mapping[str, int]) -> _State:
        now = tuple([widths.get(name, width) for name, width in self._built.items()])
        last = self._last
        # An allocation asks about every group in turn with the others where they are.
        if last is not None and last.widths == now:
            return last
        values = np.array(now, dtype=np.float64)
        reads, writes = self._reads.channels(values), self._writes.channels(values)
        state = _State(now, reads, writes, self._energies(np.arange(len(reads)), reads, writes))
        self._last = state
        return state

    def _energies(self, layers: _Integers, reads: _Integers, writes: _Integers) -> _Floats:
        """Return the bilinear interpolation of some layers at some channels, shapes (..., layers)."""
        row, down_share = self._reads.located(layers, reads)
        column, right_share = self._writes.located(layers, writes)
        place = self._begin[layers] + row * self._columns[layers] + column
        down, right = self._down[layers], self._right[layers]
        values = self._values
        above = values[place]
        above = above + right_share * (values[place + right] - above)
        below = values[place + down]
        below = below + right_share * (values[place + down + right] - below)
        result: _Floats = np.maximum(above + down_share * (below - above), 0.0)
        # Between channels that are gone there is no layer.
        return np.where((reads > 0) & (writes > 0), result, 0.0)


class _Side:
    """Channels of all layers on one side, and where each lies in its table."""

    def __init__(self, axes: Sequence[Axis], built: Mapping[str, int]) -> None:
        self.times = np.array(
            [[axis.times.get(name, 0) for name in built] for axis in axes], dtype=np.intp
        ).reshape(len(axes), len(built))  # fmt: skip
        self._times = self.times.astype(np.float64)
        self._fixed = np.array([axis.fixed for axis in axes], dtype=np.float64)
        self._most = [axis.channels(built) for axis in axes]
        self._begin = np.zeros(0, dtype=np.intp)
        self._cells = np.zeros(0, dtype=np.intp)
        self._shares = np.zeros(0)

    def locate(self, steps: Sequence[object], points: Sequence[Sequence[float]]) -> None:
        """Find the cell of every width of every layer, once."""
        from coppice_pruner.profiling.cost_model import locate

        cells: list[int] = []
        shares: list[float] = []
        begin = []
        # Layers of one kind and one width share what was found.
        known: dict[object, int] = {}
        for stairs, axis, most in zip(steps, points, self._most, strict=True):
            key = (stairs, tuple(axis), most)
            if key not in known:
                known[key] = len(cells)
                for channels in range(most + 1):
                    cell, share = locate(axis, stairs.place(channels))  # type: ignore[attr-defined]
                    cells.append(cell)
                    shares.append(share)
            begin.append(known[key])
        self._begin, self._cells = np.array(begin, dtype=np.intp), np.array(cells, dtype=np.intp)
        self._shares = np.array(shares)
        self._last = np.array(self._most, dtype=np.intp)

    def channels(self, widths: _Floats) -> _Integers:
        """Return the channels of every layer; exact, as floating point holds integers of this size."""
        result: _Integers = (self._fixed + self._times @ widths).astype(np.intp)
        return result

    def located(self, layers: _Integers, channels: _Integers) -> tuple[_Integers, _Floats]:
        """Return the cells and the places in them of some layers' channels.

        Raises:
            ValueError: If a layer is wider than in the model that was built from.
        """
        if channels.size and bool((channels > self._last[layers]).any()):
            raise ValueError("a group is wider than in the model that the costs were built for")
        where = self._begin[layers] + channels
        return self._cells[where], self._shares[where]
