"""Channel groups: the units that allocation chooses widths for. `inspection` proves which of them may be pruned."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from coppice_pruner.surgery.attention import Attention
from coppice_pruner.surgery.dependency import Coupling, Side, TracedGroup, trace
from coppice_pruner.surgery.layers import is_depthwise


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that must be removed together, such as those joined by a residual connection.

    Example: in `conv1 -> bn -> relu -> conv2` the output channels of conv1 and the input channels of conv2
    form one group named conv1.
    """

    name: str
    """Module whose output channels lead the group: of its layers, the one the model defines first."""
    width: int
    """Channels now."""
    layers: tuple[str, ...]
    """Modules that produce the group's channels: convolutions and linear layers, depthwise ones included."""
    consumers: tuple[str, ...]
    """Modules that read the group's channels as input."""
    atom: int = 1
    """Channels that stay or go together, see `atoms`; more than 1 where a grouped convolution is involved."""
    couplings: tuple[Coupling, ...] = ()
    """Every module that a cut touches, with its channels."""
    attention: Attention | None = None
    """Set where the channels are heads, or with grouped queries key/value heads."""
    droppable: bool = False
    """Whether all channels may go: they lie inside a branch that something passes by."""

    @property
    def atoms(self) -> tuple[tuple[int, ...], ...]:
        """Return the sets of channels that stay or go together.

        A convolution in G groups must keep as many channels in each of them, so the same position goes from all:
        with a width of 6 and 2 groups, (0, 3), (1, 4) and (2, 5).
        """
        stride = self.width // self.atom
        return tuple(tuple(range(position, self.width, stride)) for position in range(stride))


def traced_groups(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> tuple[tuple[ChannelGroup, str | None], ...]:
    """Return every group with a consumer and, where the graph already tells, why it cannot be pruned."""
    result = []
    for traced in trace(model, example_inputs):
        group = _group(model, traced)
        if group.consumers or traced.refusal is not None:
            result.append((group, traced.refusal or _refuse_atoms(model, group)))
    return tuple(result)


def prunable(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> dict[str, ChannelGroup]:
    """Return the groups that the graph does not refuse, by name, without trying cuts."""
    return {group.name: group for group, reason in traced_groups(model, example_inputs) if reason is None}


def _group(model: nn.Module, traced: TracedGroup) -> ChannelGroup:
    layers, consumers, atom = [], [], 1
    for coupling in traced.couplings:
        module = model.get_submodule(coupling.module)
        if coupling.side is Side.INPUT:
            consumers.append(coupling.module)
        elif coupling.side is Side.OUTPUT or is_depthwise(module):
            layers.append(coupling.module)
        if coupling.side is not Side.BOTH:
            atom = max(atom, int(getattr(module, "groups", 1)))
    return ChannelGroup(traced.leader, traced.width, tuple(layers), tuple(consumers), atom, traced.couplings,
                        traced.attention)  # fmt: skip


def _refuse_atoms(model: nn.Module, group: ChannelGroup) -> str | None:
    """Return why a grouped convolution cannot lose whole atoms of this group, if so."""
    if group.atom == 1:
        return None
    for coupling in group.couplings:
        groups = int(getattr(model.get_submodule(coupling.module), "groups", 1))
        if coupling.side is Side.BOTH or groups == 1:
            continue
        one_to_one = coupling.channels == tuple((channel,) for channel in range(group.width))
        if groups != group.atom or not one_to_one:
            return (
                f"module {coupling.module}: a convolution in {groups} groups cannot lose channels of the {group.width} "
                f"it shares with {group.name} evenly; use a dense or a depthwise one"
            )
    return None
