"""The real digits, and what a URI may name."""

from __future__ import annotations

import pytest

from coppice_pruner.data import digits, load
from coppice_pruner.errors import InputRefusedError


def test_digits_are_split_with_equal_shares_and_without_overlap() -> None:
    splits = digits()
    assert len(splits.train) + len(splits.evaluation) == 1797
    for digit in range(10):
        shares = [
            float((labels == digit).float().mean()) for labels in (splits.train.targets, splits.evaluation.targets)
        ]
        assert abs(shares[0] - shares[1]) < 0.005
    train = {image.numpy().tobytes() for image in splits.train.inputs[0]}
    assert not train & {image.numpy().tobytes() for image in splits.evaluation.inputs[0]}


def test_the_digest_is_the_same_every_time_and_can_be_pinned() -> None:
    assert digits().sha256() == digits().sha256()
    load("builtin://digits", sha256=digits().sha256())


def test_a_pin_that_does_not_match_names_the_field() -> None:
    with pytest.raises(InputRefusedError, match=r"spec\.dataset\.sha256"):
        load("builtin://digits", sha256="0" * 64)


def test_what_this_version_cannot_read_is_refused() -> None:
    with pytest.raises(InputRefusedError, match=r"spec\.dataset\.uri 'builtin://letters': unknown"):
        load("builtin://letters")
