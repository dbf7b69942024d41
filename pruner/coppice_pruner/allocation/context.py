"""What an allocation knows: widths, scores, and where the joules go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer as the profile saw it."""

    name: str
    energy_joules: float
    """Per inference, at the widths of the profile."""
    reads: str | None
    """Group that gives its input channels; None when these are fixed."""
    writes: str | None
    """Group that its output channels belong to; None when these are fixed."""


@dataclass(frozen=True)
class AllocationContext:
    """The model as allocation sees it, at the widths it has now."""

    scores: Mapping[str, tuple[float, ...]]
    """For each group, a score for each channel, zero or more; larger means keep."""
    layers: tuple[Layer, ...]
    """Measured at the same widths."""
    dense_energy_joules: Mapping[str, float] = field(default_factory=dict)
    """Energy of the layers that write each group in the dense model: the numerator of equation 3's ratio. A group
    left out is taken at its energy now."""
    fixed_energy_joules: float = 0.0
    """Per inference, of everything that no width changes."""
    multiple: int = 1
    """Widths are kept to this multiple, which the hardware likes."""

    def __post_init__(self) -> None:
        """Refuse what no allocation can work with."""
        if self.multiple < 1:
            raise ValueError(f"multiple is {self.multiple}; it must be 1 or more")
        for name, scores in self.scores.items():
            if not scores or any(not score >= 0 for score in scores):
                raise ValueError(f"group {name}: scores must be zero or more, one for each channel")

    def widths(self) -> dict[str, int]:
        """Return the widths now."""
        return {name: len(scores) for name, scores in self.scores.items()}

    def choices(self, name: str) -> tuple[int, ...]:
        """Return the widths a group may have, smallest first: multiples, and the width it has now."""
        width = len(self.scores[name])
        return (*range(min(self.multiple, width), width, self.multiple), width)

    def group_energy_joules(self, name: str) -> float:
        """Return the energy of the layers that write a group."""
        return sum(layer.energy_joules for layer in self.layers if layer.writes == name)


def predicted_energy(context: AllocationContext, widths: Mapping[str, int]) -> float:
    """Return the predicted energy per inference, in joules, at other widths.

    A first model: a layer's energy is proportional to its input width times its output width. Launch and memory
    costs that do not shrink make it an underestimate of what remains; the loop corrects it with a measurement of
    the whole model after every step, and decides by that measurement alone.
    """
    now = context.widths()
    total = context.fixed_energy_joules
    for layer in context.layers:
        share = 1.0
        for group in (layer.reads, layer.writes):
            if group is not None:
                share *= widths.get(group, now[group]) / now[group]
        total += layer.energy_joules * share
    return total
