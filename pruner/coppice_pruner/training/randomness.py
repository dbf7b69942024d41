"""Random numbers that follow from the spec's seed alone, whatever was drawn before.

A run that goes on after a kill has drawn other numbers than one that was never interrupted. So nothing hands the state
of a generator on: each stretch of work begins with a seed of its own, and dropout draws the same in both.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

_NUMPY_SEEDS = 2**32


def seed_all(seed: int) -> None:
    """Seed every global generator that a model, its layers or its data may draw from: torch, Python, numpy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed inside, and outside go on as if nothing had been drawn."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        seed_all(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
