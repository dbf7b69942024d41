"""Which saliency an allocation wants its scores from."""

from __future__ import annotations

from enum import StrEnum


class Criterion(StrEnum):
    """The scores that go into `GroupState.scores`."""

    L2 = "L2"
    """`saliency.l2_scores`."""
    TAYLOR = "Taylor"
    """`saliency.taylor_scores`."""
