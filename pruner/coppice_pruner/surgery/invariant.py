"""The invariant that finds what goes wrong in structural pruning without a word.

A sliced model must give what the dense model gives when the removed channels are masked where they are read.
The mask zeroes the weights of the reading modules, after every norm and activation. Slicing pairs what is left of
the producers with what is left of the readers, so a wrong pairing, a head whose size attribute stayed, a query
group cut apart from its keys, or an operation that mixes channels outside any module shows as a difference.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from coppice_pruner.errors import InputRefusedError, InvariantViolatedError
from coppice_pruner.surgery.branch import tensors
from coppice_pruner.surgery.dependency import Side, evaluating
from coppice_pruner.surgery.groups import ChannelGroup, prunable
from coppice_pruner.surgery.layers import layer_widths, weight_OI
from coppice_pruner.surgery.prune import named, removed_channels, slice_copy

_log = logging.getLogger(__name__)
TOLERANCE = 1e-4
"""Greatest difference, relative to the largest output, that summing in another order explains in float32. Networks of
a few tens of layers show 1e-7 to 1e-5; TF32 would show 1e-3 and is switched off for the comparison."""


def masked_dense_difference(
    dense: nn.Module, pruned: nn.Module, kept: Mapping[str, Sequence[int]], inputs: tuple[Tensor, ...]
) -> float:
    """Return the greatest difference of the two models' outputs, relative to the largest output.

    Args:
        dense: The model before slicing; not changed. Compared in eval mode.
        pruned: The model after slicing; not changed.
        kept: What `prune` was told, indices into the dense model's widths.
        inputs: One batch of samples, shapes (N, ...).

    Returns:
        The difference; infinity where the outputs have another shape.

    Raises:
        InputRefusedError: If the plan does not fit the dense model, or every input is constant: then nearly
            everything passes.
    """
    if all(bool((item == item.flatten()[0]).all()) for item in inputs):
        raise InputRefusedError(
            "invariant check: the inputs are constant and would prove nothing; give it real samples"
        )
    groups = prunable(dense, inputs)
    removals = [(named(groups, name), removed_channels(named(groups, name), indices)) for name, indices in kept.items()]
    return _sliced_difference(dense, pruned, removals, inputs)


def check_invariant(
    dense: nn.Module, pruned: nn.Module, kept: Mapping[str, Sequence[int]], inputs: tuple[Tensor, ...]
) -> None:
    """Raise unless the pruned model is the masked dense model.

    Raises:
        InvariantViolatedError: With the groups at fault and the difference found.
        InputRefusedError: As `masked_dense_difference`.
    """
    _refuse_difference(masked_dense_difference(dense, pruned, kept, inputs), kept)


def check_sliced(
    model: nn.Module, candidate: nn.Module, removals: Sequence[tuple[ChannelGroup, Sequence[int]]],
    inputs: tuple[Tensor, ...],
) -> None:  # fmt: skip
    """Raise unless a candidate is the model with the removed channels masked.

    Raises:
        InvariantViolatedError: With the groups at fault and the difference found.
    """
    difference = _sliced_difference(model, candidate, removals, inputs)
    _refuse_difference(difference, [group.name for group, _ in removals])


def _sliced_difference(
    model: nn.Module, candidate: nn.Module, removals: Sequence[tuple[ChannelGroup, Sequence[int]]],
    inputs: tuple[Tensor, ...],
) -> float:  # fmt: skip
    masked = copy.deepcopy(model)
    for group, channels in removals:
        mask(masked, group, channels)
    return _difference(masked, candidate, inputs)


def _refuse_difference(difference: float, names: Iterable[str]) -> None:
    # Written so that NaN fails too.
    if not difference <= TOLERANCE:
        raise InvariantViolatedError(
            f"slicing {', '.join(names)} changed the outputs by {difference:.2g} of their size against the dense model "
            f"with those channels masked (allowed: {TOLERANCE:g}); nothing was kept of this step"
        )


def cut_holds(model: nn.Module, groups: Sequence[ChannelGroup], inputs: tuple[Tensor, ...]) -> bool:
    """Return whether all of these groups can lose an atom at once: what `why_not` finds for each is then nothing.

    Args:
        model: Not changed.
        groups: Groups of the model.
        inputs: One batch that is not constant.
    """
    try:
        return _cut_difference(model, groups, inputs) <= TOLERANCE
    except Exception as error:  # whatever a model's own code raises when a width changes
        _log.debug("%d groups do not hold together: %s", len(groups), error)
        return False


def why_not(model: nn.Module, group: ChannelGroup, inputs: tuple[Tensor, ...]) -> str | None:
    """Return why a group cannot be pruned, found by cutting its first atom off a copy; None if it can.

    Args:
        model: Not changed.
        group: A group of the model.
        inputs: One batch that is not constant.
    """
    try:
        difference = _cut_difference(model, [group], inputs)
    except Exception as error:  # whatever a model's own code raises when a width changes
        return (
            f"module {group.name}: the model does not run without some of its channels ({_first_line(error)}); "
            "the forward pass must take widths from its tensors, not from constants"
        )
    if difference == float("inf"):
        return f"module {group.name}: its channels are tied to the model's outputs, whose shape would change"
    if not difference <= TOLERANCE:
        return (
            f"module {group.name}: removing a channel changes what the others compute (by {difference:.2g} of the "
            f"output), somewhere between it and {', '.join(group.consumers)}; softmax, normalisation or reshapes over "
            "channels do that"
        )
    return None


def _cut_difference(model: nn.Module, groups: Sequence[ChannelGroup], inputs: tuple[Tensor, ...]) -> float:
    # Pruned to the end it is still a group, with no cut left to try.
    removals = [(group, group.atoms[0]) for group in groups if group.width > group.atom]
    if not removals:
        return 0.0
    return _difference(_masked_copy(model, removals), slice_copy(model, removals, inputs, shared=True), inputs)


def answers_without(model: nn.Module, groups: Sequence[ChannelGroup], inputs: tuple[Tensor, ...]) -> bool:
    """Return whether answers still depend on the inputs when all channels of all of these groups are masked.

    Args:
        model: Not changed.
        groups: Groups of the model that may be pruned.
        inputs: One batch of at least two different samples.
    """
    if not all(_alone_read(model, group) for group in groups):
        return False
    return _vary(_outputs(_masked_copy(model, _all_channels(groups)), inputs))


def passed_by(model: nn.Module, groups: Sequence[ChannelGroup], inputs: tuple[Tensor, ...]) -> bool:
    """Return whether all channels of all of these groups may go: something passes by them, and dropping is masking.

    Args:
        model: Not changed.
        groups: Groups of the model that may be pruned, each of which `answers_without`.
        inputs: One batch of at least two different samples.
    """
    removals = _all_channels(groups)
    try:
        outputs = _outputs(_masked_copy(model, removals), inputs)
        if not _vary(outputs):
            return False
        dropped = slice_copy(model, removals, inputs, shared=True)
        return _distance(outputs, _outputs(dropped, inputs)) <= TOLERANCE
    except Exception as error:  # whatever a model's own code raises when a branch is gone
        _log.debug("%d groups cannot be dropped together: %s", len(groups), error)
        return False


def _all_channels(groups: Sequence[ChannelGroup]) -> list[tuple[ChannelGroup, Sequence[int]]]:
    return [(group, range(group.width)) for group in groups]


def _vary(outputs: Sequence[Tensor]) -> bool:
    """Return whether some number differs between samples."""
    numbers = [item for item in outputs if item.is_floating_point()]
    return any(bool((item - item[:1]).abs().max() > 1e-5 * item.abs().max()) for item in numbers)


def _alone_read(model: nn.Module, group: ChannelGroup) -> bool:
    """Return whether no reader reads other channels too; it would not become a constant."""
    read = dict.fromkeys(group.consumers, 0)
    for coupling in group.couplings:
        if coupling.side is Side.INPUT:
            read[coupling.module] += sum(len(indices) for indices in coupling.channels)
    return all(count == layer_widths(model.get_submodule(name))[0] for name, count in read.items())


def _masked_copy(model: nn.Module, removals: Sequence[tuple[ChannelGroup, Sequence[int]]]) -> nn.Module:
    """Return a model that shares its parameters with another one but for those that masking changes."""
    changed = {
        id(parameter)
        for group, _ in removals
        for coupling in group.couplings
        if coupling.side is Side.INPUT
        for parameter in model.get_submodule(coupling.module).parameters()
    }
    # Copying a transformer once for each of its groups took longer than running it.
    masked = copy.deepcopy(model, {id(item): item for item in model.parameters() if id(item) not in changed})
    for group, channels in removals:
        mask(masked, group, channels)
    return masked


def mask(model: nn.Module, group: ChannelGroup, channels: Sequence[int]) -> None:
    """Zero, in place, every weight that reads some channels of a group."""
    for coupling in group.couplings:
        if coupling.side is not Side.INPUT:
            continue
        weight, groups = weight_OI(model.get_submodule(coupling.module)), group_count(model, coupling.module)
        indices = [index for channel in channels for index in coupling.channels[channel]]
        with torch.no_grad():
            if groups == 1:
                weight[:, indices] = 0.0
                continue
            for index in indices:
                reading_weights(weight, index, groups=groups).zero_()


def reading_weights(weight_OI: Tensor, index: int, *, groups: int = 1) -> Tensor:
    """Return the view of a weight, shape (O, I / groups, ...), that reads one input channel."""
    outputs, inputs = weight_OI.shape[0] // groups, weight_OI.shape[1]
    position = index // inputs
    return weight_OI[position * outputs : (position + 1) * outputs, index % inputs]


def group_count(model: nn.Module, name: str) -> int:
    """Return in how many groups a module reads its inputs: 1 unless it is a grouped convolution."""
    return int(getattr(model.get_submodule(name), "groups", 1))


def _difference(first: nn.Module, second: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    return _distance(_outputs(first, inputs), _outputs(second, inputs))


def _outputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    with torch.no_grad(), _full_precision(), evaluating(model):
        return list(tensors(model(*inputs)))


def _distance(want: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    if [item.shape for item in want] != [item.shape for item in got]:
        return float("inf")
    worst = 0.0
    for one, other in zip(want, got, strict=True):
        if one.is_floating_point() and one.numel():
            scale = max(float(one.abs().max()), 1e-12)
            difference = float((other - one).abs().max()) / scale
            # max() would drop a NaN.
            worst = difference if difference != difference else max(worst, difference)
    return worst


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    if not torch.cuda.is_available():
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
