"""Small instances of the allocation problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from coppice_pruner.allocation import AllocationContext, GroupState


@dataclass(frozen=True)
class ChainEnergy:
    """Layers in a row; each costs `overhead + slope * c_in * c_out`. The slow, obvious energy model."""

    dense: Mapping[str, int]
    """Dense widths, in the order of the chain."""
    slopes: tuple[float, ...]
    """One more than there are groups: the last layer reads the last group."""
    overheads: tuple[float, ...]

    def _layer(self, widths: Mapping[str, int], position: int) -> float:
        chain = [1, *({**self.dense, **widths}[name] for name in self.dense), 1]
        return self.overheads[position] + self.slopes[position] * chain[position] * chain[position + 1]

    def predict(self, widths: Mapping[str, int]) -> float:
        return sum(self._layer(widths, position) for position in range(len(self.slopes)))

    def predict_choices(self, widths: Mapping[str, int], group: str, choices: Sequence[int]) -> list[float]:
        return [self.predict({**widths, group: choice}) for choice in choices]

    def predict_each(self, widths: Mapping[str, int], others: Mapping[str, int]) -> list[float]:
        return [self.predict({**widths, group: width}) for group, width in others.items()]

    def predict_seconds(self, widths: Mapping[str, int]) -> float:
        """Without overheads: latency and energy do not agree on what is cheap."""
        return self.predict(widths) - sum(self.overheads)

    def group_energy(self, widths: Mapping[str, int], group: str) -> float:
        return self._layer(widths, list(self.dense).index(group))


def context(
    scores: Mapping[str, Sequence[float]],
    *,
    slopes: Sequence[float] | None = None,
    overheads: Sequence[float] | None = None,
    dense: Mapping[str, int] | None = None,
    multiple: int = 1,
    min_width: int = 1,
) -> AllocationContext:
    dense = dense or {name: len(values) for name, values in scores.items()}
    layers = len(scores) + 1
    energy = ChainEnergy(dense, tuple(slopes or [1.0] * layers), tuple(overheads or [0.0] * layers))
    groups = tuple(GroupState(name, tuple(values), dense[name]) for name, values in scores.items())
    return AllocationContext(groups, energy, multiple=multiple, min_width=min_width)


@st.composite
def contexts(draw: st.DrawFn, *, max_groups: int = 3, max_width: int = 6) -> AllocationContext:
    count = draw(st.integers(1, max_groups))
    score = st.floats(0.01, 10.0)
    scores = {f"g{index}": draw(st.lists(score, min_size=1, max_size=max_width)) for index in range(count)}
    dense = {name: len(values) + draw(st.integers(0, 3)) for name, values in scores.items()}
    joules = st.floats(0.01, 10.0)
    return context(
        scores,
        dense=dense,
        slopes=[draw(joules) for _ in range(count + 1)],
        overheads=[draw(joules) for _ in range(count + 1)],
        multiple=draw(st.integers(1, 3)),
    )
