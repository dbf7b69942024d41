"""How many targets have the new model after each wave.

Ten targets, waves `1`, `25%`, `100%`: cumulative sizes 1, 3, 10 (percentages are rounded up).
"""

from __future__ import annotations

from collections.abc import Sequence

from coppice_api.modelrollout import Wave


def cumulative_sizes(waves: Sequence[Wave], total: int) -> list[int]:
    """Return the number of targets updated at the end of each wave.

    Sizes never shrink and never pass `total`; a last wave of all is added when the list stops short.
    A wave may add nothing (`1`, then `1%` of three): it keeps its number, since approvals count waves.
    """
    sizes: list[int] = []
    for wave in waves:
        before = sizes[-1] if sizes else 0
        sizes.append(max(before, min(total, _size(wave.targets, total))))
    if not sizes or sizes[-1] < total:
        sizes.append(total)
    return sizes


def wave_of(index: int, sizes: Sequence[int]) -> int:
    """Return the wave, counted from 1, of the target at `index` (counted from 0)."""
    return next(number for number, size in enumerate(sizes, start=1) if index < size)


def _size(targets: int | str, total: int) -> int:
    if isinstance(targets, int):
        return targets
    percent = int(targets.removesuffix("%"))
    return -(-total * percent // 100)
