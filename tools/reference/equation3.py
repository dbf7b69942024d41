"""docs/concepts/equation-3.md: the paper's importance as printed and mended, on a worked example that is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from coppice_pruner.allocation import AllocationContext, GroupState, Paper, PaperCorrected
from coppice_pruner.allocation.context import Kept, Widths
from reference.markdown import table

ALPHA, BETA = 0.6, 0.4
STEP = 0.25
DENSE = {"early": 32, "middle": 64, "late": 128}
# Joules of an operator that do not depend on widths, and joules a pair of channels; a late layer sees few pixels.
OVERHEADS = {"early": 0.2, "middle": 0.2, "late": 0.6}
SLOPES = {"early": 0.01, "middle": 0.003, "late": 0.0001}
_INPUTS = 3
_TEXT = """\
# Equation 3 contradicts itself

Computed by `tools/reference/equation3.py` with the code that prunes; `make reference` writes this page again.

The paper that Coppice began with ranks layers by an importance and prunes the least important first:

    I_l = alpha * ||W_l||_2  +  beta * E_dense(l) / E_sparse(l)        (equation 3)

The ratio is large where pruning saves much. Added to an *importance*, it protects the layers that would save most.

## With numbers

Three convolutions of equal weight norm. Each costs a fixed overhead and so much for each pair of channels; the sparse
state has half of the layer's channels. alpha is {alpha}, beta {beta}.

{layers}

As printed, **{protected}** is the most important layer, because halving it saves most, and **{taken}** goes first.
Mended, with `E_sparse / E_dense` of the whole model while that layer alone is sparse, they go in the order {order}:
a layer also saves what its reader no longer has to read.

One step that removes a quarter of all channels:

{steps}

## What the paper itself says

Its text says that energy-hungry layers are pruned first. Its Table 1 has a row for alpha = 0, where only the ratio is
left: the most energy saved of all rows, at by far the worst accuracy. Read literally, alpha = 0 would take the layers
that save *least*. So the results were not made by the equation as it is printed.

Two more troubles: a raw norm and a ratio have no common scale, so alpha and beta mean something else in every network;
and one number for a layer does not say which of its channels go.

## What Coppice does

`algorithm.allocation` has both readings, for comparison with the paper: `Paper` is the equation as printed, and
`PaperCorrected` turns the ratio over, divides each norm by its layer's mean and scores channels. Neither is the
default. `Knapsack` asks the question behind the equation directly: of all widths whose *measured* cost meets the
target, which lose the least?
"""


class Chain:
    """Three layers in a row: an `EnergyModel` with the obvious costs."""

    def predict(self, widths: Widths) -> float:
        """Return joules of all layers."""
        return sum(self.group_energy(widths, name) for name in DENSE)

    def predict_choices(self, widths: Widths, group: str, choices: Sequence[int]) -> list[float]:
        """Return `predict` at several widths of one group."""
        return [self.predict({**widths, group: choice}) for choice in choices]

    def predict_each(self, widths: Widths, others: Widths) -> list[float]:
        """Return `predict` for each of several groups at another width."""
        return [self.predict({**widths, group: width}) for group, width in others.items()]

    def predict_seconds(self, widths: Widths) -> float:
        """Return seconds as if a joule took one."""
        return self.predict(widths)

    def group_energy(self, widths: Widths, group: str) -> float:
        """Return joules of one layer: its overhead, and pairs of channels."""
        names = list(DENSE)
        position = names.index(group)
        known = {**DENSE, **widths}
        inputs = known[names[position - 1]] if position else _INPUTS
        return OVERHEADS[group] + SLOPES[group] * inputs * known[group]


def context() -> AllocationContext:
    """Return the example: every layer has norm 1, its strongest channel three times that of its weakest."""
    groups = []
    for name, width in DENSE.items():
        scores = [1 + 2 * channel / (width - 1) for channel in range(width)]
        norm = math.sqrt(math.fsum(score**2 for score in scores))
        groups.append(GroupState(name, tuple(score / norm for score in scores), width))
    return AllocationContext(tuple(groups), Chain())


def page() -> str:
    """Return the page."""
    example, energy = context(), Chain()
    printed = Paper(ALPHA, BETA).importance(example)
    channels = PaperCorrected(ALPHA, BETA).importance(example)
    mended = {name: math.fsum(scores) / len(scores) for name, scores in channels.items()}
    rows = []
    for name, width in DENSE.items():
        dense, sparse = energy.group_energy(DENSE, name), energy.group_energy({**DENSE, name: width // 2}, name)
        rows.append(
            (name, str(width), f"{dense:.2f} J", f"{sparse:.2f} J", f"{printed[name]:.3f}", f"{mended[name]:.3f}")
        )
    return _TEXT.format(
        alpha=ALPHA, beta=BETA, protected=max(printed, key=lambda name: printed[name]),
        taken=min(printed, key=lambda name: printed[name]),
        order=", ".join(sorted(mended, key=lambda name: mended[name])),
        layers=table(("Layer", "Channels", "Dense", "Half", "As printed", "Mended, mean of channels"), rows),
        steps=table(("Reading", "Channels left", "Energy saved"), [
            ("as printed", *outcome(Paper(ALPHA, BETA).propose(example, STEP))),
            ("mended", *outcome(PaperCorrected(ALPHA, BETA).propose(example, STEP))),
        ]),
    )  # fmt: skip


def outcome(kept: Kept) -> tuple[str, str]:
    """Return the widths after a step and what it saves."""
    widths: Mapping[str, int] = {**DENSE, **{name: len(channels) for name, channels in kept.items()}}
    saved = 1 - Chain().predict(widths) / Chain().predict(DENSE)
    return ", ".join(f"{name} {width}" for name, width in widths.items()), f"{saved:.1%}"
