"""The only module that imports Torch-Pruning: its dependency graph, reduced to what we rely on.

Only `DependencyGraph` and the per-layer prune functions are used. The library's high-level pruners round widths
down unasked and keep state between calls; its groups prune one after another and shift each other's indices. Here
the graph is traced once, every group's channels are written down as indices into the model as it is, and each
module is then cut once. `groups` takes over from here.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch
import torch_pruning as tp
from torch import Tensor, nn

from coppice_pruner.errors import SurgeryRefusedError
from coppice_pruner.surgery.attention import Attention, find_attention, find_unknown_attention
from coppice_pruner.surgery.branch import Constant
from coppice_pruner.surgery.elementwise import find_passages
from coppice_pruner.surgery.layers import (
    CONVOLUTIONS,
    cut_parameter,
    cut_transposed_linear,
    is_depthwise,
    is_transposed_linear,
)

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_MIXING_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class Side(Enum):
    """Which channels of a module a group owns."""

    OUTPUT = "output"
    INPUT = "input"
    BOTH = "both"
    """Modules that treat every channel by itself: batch norm, depthwise convolution."""


@dataclass(frozen=True)
class Coupling:
    """The channels of one module that belong to a group.

    Example: a linear layer behind a flatten of 4x4 maps reads channel 1 of its group as inputs 16 to 31.
    """

    module: str
    side: Side
    channels: tuple[tuple[int, ...], ...]
    """For each channel of the group, the module's channels that go with it."""


@dataclass(frozen=True)
class TracedGroup:
    """One group as the graph shows it, before anything is known about whether it may be pruned."""

    leader: str
    width: int
    couplings: tuple[Coupling, ...]
    refusal: str | None
    """Why its channels cannot be removed; None if nothing in the graph speaks against it."""
    attention: Attention | None = None
    """Set where the channels are heads."""


def trace(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> tuple[TracedGroup, ...]:
    """Return every group of coupled output channels, in the order in which the model defines its layers.

    Args:
        model: Not changed.
        example_inputs: One batch.

    Raises:
        SurgeryRefusedError: If the model cannot be traced.
    """
    heads = find_attention(model)
    if heads or find_unknown_attention(model):
        # The graph of a transformer is one group of the hidden size, which its norms mix; what can be pruned are the
        # heads, and the widths between two linear layers.
        return (*(_heads(item) for item in heads), *_linear_groups(model, example_inputs, heads))
    graph, calls = _build(model, example_inputs)
    names = {module: name for name, module in model.named_modules()}
    shared = _modules_with_shared_parameters(model)
    groups, led = [], set[str]()
    for name, module in model.named_modules():
        if not isinstance(module, (*CONVOLUTIONS, nn.Linear)) or name in led or module not in graph.module2node:
            continue
        group = _traced(graph, name, module, names)
        led |= {coupling.module for coupling in group.couplings if coupling.side is not Side.INPUT}
        groups.append(replace(group, refusal=group.refusal or _refuse_reuse(group, calls, shared)))
    return tuple(groups)


def _heads(attention: Attention) -> TracedGroup:
    queries, keys = attention.query_channels, attention.key_channels
    couplings = [Coupling(attention.queries, Side.OUTPUT, attention.fused_channels if attention.fused else queries)]
    if not attention.fused:
        couplings += [Coupling(layer, Side.OUTPUT, keys) for layer in (attention.keys, attention.values)]
    couplings.append(Coupling(attention.output, Side.INPUT, queries))
    if attention.bias_table is not None:
        heads = tuple((head,) for head in range(attention.heads))
        couplings.append(Coupling(attention.bias_table, Side.BOTH, heads))
    return TracedGroup(attention.queries, attention.key_value_heads, tuple(couplings), None, attention)


def _linear_groups(
    model: nn.Module, example_inputs: tuple[Tensor, ...], heads: Sequence[Attention]
) -> tuple[TracedGroup, ...]:
    taken = {name for item in heads for name in (item.queries, item.keys, item.values, item.output)}
    unknown = find_unknown_attention(model)
    taken |= {f"{owner}.{name}" for owner in unknown for name, _ in model.get_submodule(owner).named_modules()}
    shared = _modules_with_shared_parameters(model)
    with evaluating(model):
        passages = find_passages(model, example_inputs, without=taken)
    groups = [
        TracedGroup(
            owner, 0, (),
            f"module {owner}: {type(model.get_submodule(owner)).__name__} splits its heads in a way of its own, so "
            "they all stay; with layers q_proj, k_proj, v_proj and o_proj and an attribute head_dim they could go",
        )
        for owner in unknown
    ]  # fmt: skip
    for passage in passages:
        channels = tuple((channel,) for channel in range(passage.width))
        couplings = tuple(
            Coupling(name, side, channels)
            for names, side in ((passage.producers, Side.OUTPUT), (passage.readers, Side.INPUT))
            for name in names
        )
        group = TracedGroup(passage.producers[0], passage.width, couplings, None)
        groups.append(replace(group, refusal=_refuse_reuse(group, {}, shared)))
    return tuple(groups)


def cut(model: nn.Module, removed: Mapping[tuple[str, Side], Sequence[int]]) -> None:
    """Remove channels of modules in place, each module and side once.

    Args:
        model: Changed in place.
        removed: Indices into each module's channels now.
    """
    for (name, side), indices in removed.items():
        module = model.get_submodule(name)
        if isinstance(module, nn.Identity):
            # Dead since a branch was dropped.
            continue
        required = {key: parameter.requires_grad for key, parameter in module.named_parameters(recurse=False)}
        cut_module(module, side, indices)
        # The library's new parameters always require gradients.
        for key, parameter in module.named_parameters(recurse=False):
            parameter.requires_grad_(required[key])


def cut_module(module: nn.Module, side: Side, indices: Sequence[int]) -> None:
    """Remove channels of one module in place.

    Args:
        module: Its own parameters and buffers are replaced.
        side: Inputs or outputs.
        indices: Into its channels now.
    """
    indices = list(indices)
    if isinstance(module, Constant):
        cut_parameter(module, "bias", 0, indices)
    elif is_transposed_linear(module):
        cut_transposed_linear(module, indices, outputs=side is Side.OUTPUT)
    elif hasattr(module, "relative_position_bias_table"):
        cut_parameter(module, "relative_position_bias_table", 1, indices)
    else:
        _prune_function(module, side)(module, indices)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put a model into eval mode and every module back into the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


def _build(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> tuple[tp.DependencyGraph, dict[str, int]]:
    names = {module: name for name, module in model.named_modules()}
    calls: dict[str, int] = {}

    def count(module: nn.Module, *_: object) -> None:
        calls[names[module]] = calls.get(names[module], 0) + 1

    # Tracing follows gradients: frozen parameters would be invisible.
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    handles = [module.register_forward_hook(count) for module in model.modules()]
    try:
        with warnings.catch_warnings(), evaluating(model), torch.inference_mode(False), torch.enable_grad():
            warnings.simplefilter("ignore")
            for parameter, _ in required:
                if parameter.is_floating_point():
                    parameter.requires_grad_(True)
            graph = tp.DependencyGraph().build_dependency(model, example_inputs=example_inputs, verbose=False)
    except Exception as error:
        raise SurgeryRefusedError(
            f"model {type(model).__name__} cannot be traced for its channel dependencies ({error}): "
            "make its forward pass take the declared inputs and free of data-dependent control flow"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for parameter, was_required in required:
            parameter.requires_grad_(was_required)
    return graph, calls


def _traced(graph: tp.DependencyGraph, name: str, module: nn.Module, names: Mapping[nn.Module, str]) -> TracedGroup:
    weight = module.weight
    assert isinstance(weight, Tensor)
    width = int(weight.shape[0])
    couplings: dict[tuple[str, Side], list[list[int]]] = {}
    refusal = None
    for item in graph.get_pruning_group(module, _prune_function(module, Side.OUTPUT), list(range(width))):
        member = item.dep.target.module
        if isinstance(member, nn.Parameter):
            refusal = refusal or (
                f"group {name}: the model reads a parameter of shape {tuple(member.shape)} outside any module, which "
                "cannot be pruned with its channels; put it into a module of its own"
            )
        member_name = names.get(member) if isinstance(member, nn.Module) else None
        if member_name is None:
            # Operations (add, concat, flatten) stand in the graph as modules of the library's own.
            continue
        refusal = refusal or _refuse_kind(member_name, member)
        side = _side(member, produces=graph.is_out_channel_pruning_fn(item.dep.handler))
        channels = couplings.setdefault((member_name, side), [[] for _ in range(width)])
        for root, index in zip(item.root_idxs, item.idxs, strict=True):
            channels[int(root)].append(int(index))
    return TracedGroup(
        name,
        width,
        tuple(
            Coupling(member_name, side, tuple(tuple(sorted(set(indices))) for indices in channels))
            for (member_name, side), channels in couplings.items()
        ),
        refusal,
    )


def coupled_sum(coupling: Coupling, values: Tensor) -> Tensor:
    """Return, for each channel of a group, the sum of the values of a module's channels that go with it.

    Args:
        coupling: Of the module.
        values: One for each of the module's channels on that side, shape (C,).

    Returns:
        Shape (width of the group,), on the CPU.
    """
    owners = [channel for channel, indices in enumerate(coupling.channels) for _ in indices]
    chosen = [index for indices in coupling.channels for index in indices]
    values = values.detach().float().cpu()
    return torch.zeros(len(coupling.channels)).index_add_(0, torch.tensor(owners), values[chosen])


def _side(module: nn.Module, *, produces: bool) -> Side:
    if isinstance(module, (*CONVOLUTIONS, nn.Linear)) and not is_depthwise(module):
        return Side.OUTPUT if produces else Side.INPUT
    return Side.BOTH


def _prune_function(module: nn.Module, side: Side) -> Callable[[nn.Module, list[int]], nn.Module]:
    function: Callable[[nn.Module, list[int]], nn.Module]
    if is_depthwise(module):
        function = tp.prune_depthwise_conv_out_channels
    elif isinstance(module, CONVOLUTIONS):
        function = tp.prune_conv_in_channels if side is Side.INPUT else tp.prune_conv_out_channels
    elif isinstance(module, nn.Linear):
        function = tp.prune_linear_in_channels if side is Side.INPUT else tp.prune_linear_out_channels
    elif isinstance(module, _BATCH_NORMS):
        function = tp.prune_batchnorm_out_channels
    elif isinstance(module, _INSTANCE_NORMS):
        function = tp.prune_instancenorm_out_channels
    else:
        assert isinstance(module, nn.PReLU)
        function = tp.prune_prelu_out_channels
    return function


def _refuse_kind(name: str, module: nn.Module) -> str | None:
    if isinstance(module, _MIXING_NORMS):
        return (
            f"module {name}: {type(module).__name__} mixes channels, so removing some changes the others; "
            "use batch norm there, or leave this width as it is"
        )
    if isinstance(module, CONVOLUTIONS):
        if module.groups > 1 and module.groups == module.out_channels != module.in_channels:
            return (
                f"module {name}: a convolution of {module.groups} groups from {module.in_channels} to "
                f"{module.out_channels} channels cannot lose channels evenly; use a dense or a depthwise one"
            )
        return None
    if isinstance(module, (nn.Linear, *_BATCH_NORMS, *_INSTANCE_NORMS, nn.PReLU)):
        return None
    return (
        f"module {name}: channels of {type(module).__name__} cannot be removed in this version; "
        "convolution, linear, batch norm, instance norm and PReLU layers can"
    )


def _refuse_reuse(group: TracedGroup, calls: Mapping[str, int], shared: Mapping[str, str]) -> str | None:
    for coupling in group.couplings:
        name = coupling.module
        if name in shared:
            return f"module {name}: shares its parameters with module {shared[name]}; untie them"
        if calls.get(name, 0) > 1:
            return (
                f"module {name}: is called {calls[name]} times in one forward pass, so its channels cannot be told "
                "apart; give each call a module of its own"
            )
    return None


def _modules_with_shared_parameters(model: nn.Module) -> dict[str, str]:
    owners: dict[int, str] = {}
    shared = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owner = owners.setdefault(id(parameter), name)
            if owner != name:
                shared[owner], shared[name] = name, owner
    return shared
