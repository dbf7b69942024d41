"""Cumulative sizes of waves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coppice_api.modelrollout import Wave
from coppice_operator.rollout.waves import cumulative_sizes, wave_of

SIZES = st.integers(1, 100_000) | st.integers(1, 100).map(lambda percent: f"{percent}%")


@pytest.mark.parametrize(
    ("sizes", "total", "want"),
    [
        ([1, "25%", "100%"], 10, [1, 3, 10]),
        ([1, "100%"], 3, [1, 3]),
        ([1], 3, [1, 3]),
        (["50%"], 3, [2, 3]),
        (["34%"], 3, [2, 3]),
        (["1%"], 1, [1]),
        ([5, 2, "100%"], 10, [5, 5, 10]),
        ([1000], 3, [3]),
        ([1, 2, 3], 1, [1, 1, 1]),
    ],
)
def test_sizes_are_cumulative(sizes: list[int | str], total: int, want: list[int]) -> None:
    assert cumulative_sizes([Wave(targets=size) for size in sizes], total) == want


@given(st.lists(SIZES, min_size=1, max_size=32), st.integers(1, 1000))
def test_sizes_never_shrink_and_reach_everything(sizes: list[int | str], total: int) -> None:
    found = cumulative_sizes([Wave(targets=size) for size in sizes], total)
    assert found == sorted(found) and found[0] >= 1 and found[-1] == total
    assert len(found) in (len(sizes), len(sizes) + 1)
    waves = [wave_of(index, found) for index in range(total)]
    assert [sum(wave <= number for wave in waves) for number in range(1, len(found) + 1)] == found
