"""Staircases: kernels work in steps of some channels, and what lies between two steps often costs as much as the next.

On a CPU with vectors of 16 floats a convolution of 20 channels costs what one of 32 does; a matrix product of 28
columns costs more than one of 32. A straight line between 16 and 32 is up to a third off. So widths are mapped to
places where cost is straight:

    place(c) = c                                     up to the first full step
    place(c) = start of the step + period * share    beyond it, `share` measured once within one step

A share of 1 right after the start is a staircase, a share that grows evenly is a line, one above 1 an odd width that
costs more than the next even one.
"""

from __future__ import annotations

from dataclasses import dataclass

_MOST = 4.0
"""A share beyond is noise; 2.5 was seen for convolutions of 1x1 with a stride."""


@dataclass(frozen=True)
class Staircase:
    """Maps channels to places on a straight line of cost."""

    period: int = 1
    """Channels of one step; 1 maps every width to itself."""
    shares: tuple[float, ...] = (0.0,)
    """Share of a step's cost reached at evenly spaced widths in it, the first at its start; its end is 1."""

    def place(self, channels: int) -> float:
        """Return the place of a width, in channels."""
        if self.period == 1 or channels <= self.period:
            return float(channels)
        start = channels // self.period * self.period
        position = (channels - start) * len(self.shares) / self.period
        lower = int(position)
        ends = (*self.shares, 1.0)
        share = ends[lower] + (position - lower) * (ends[lower + 1] - ends[lower]) if channels > start else 0.0
        return start + self.period * share


def shares_of(start: float, between: tuple[float, ...], end: float) -> tuple[float, ...]:
    """Return the shares of a step from the costs measured at its start, in between and at its end.

    Where a step costs next to nothing, its inside says nothing: then the shares are even.
    """
    count = len(between) + 1
    if end - start < 0.02 * max(start, end):
        return tuple(index / count for index in range(count))
    return (0.0, *(min(_MOST, max(0.0, (cost - start) / (end - start))) for cost in between))
