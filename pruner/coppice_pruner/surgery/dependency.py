"""The only module that imports Torch-Pruning: its dependency graph, reduced to what we rely on.

Only `DependencyGraph` and the per-layer prune functions are used: the library's high-level pruners round
widths down unasked and keep state between calls.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch_pruning as tp
from torch import Tensor, nn

from coppice_pruner.errors import SurgeryRefusedError

_PRODUCERS = (nn.Conv2d, nn.Linear)
# Per-channel modules: a removed channel leaves the others' values alone.
_TRANSPARENT = (nn.BatchNorm1d, nn.BatchNorm2d, nn.PReLU)


@dataclass(frozen=True)
class Member:
    """One module of a group and which of its channels belong to the group's channels, in order."""

    name: str
    module: nn.Module
    indices: tuple[int, ...]
    produces: bool
    """True for output channels, False for input channels."""


class Dependencies:
    """Which channels of which modules must be removed together.

    Args:
        model: The model, in eval mode. Not changed by building.
        example_inputs: One batch; the graph is traced with it.

    Raises:
        SurgeryRefusedError: If the model cannot be traced.
    """

    def __init__(self, model: nn.Module, example_inputs: tuple[Tensor, ...]) -> None:
        """Trace the model."""
        self.model = model
        self._names = {module: name for name, module in model.named_modules()}
        # The library changes requires_grad and the mode while it traces; put both back.
        state = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        training = model.training
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._graph = tp.DependencyGraph().build_dependency(model.eval(), example_inputs=example_inputs)
        except Exception as error:
            raise SurgeryRefusedError(
                f"model {type(model).__name__} cannot be traced for its channel dependencies ({error}): "
                "make its forward pass free of data-dependent control flow"
            ) from error
        finally:
            model.train(training)
            for parameter, required in state:
                parameter.requires_grad_(required)

    def roots(self) -> list[list[Member]]:
        """Return every group once, its leading producer first; deterministic for one model."""
        return [self._members(group) for group in self._graph.get_all_groups(root_module_types=list(_PRODUCERS))]

    def group(self, leader: str, indices: Sequence[int]) -> list[Member]:
        """Return the members touched when `indices` of the leader's output channels go."""
        return self._members(self._pruning_group(leader, indices))

    def remove(self, leader: str, indices: Sequence[int]) -> None:
        """Remove these output channels of the leader, and what depends on them, from the model in place."""
        self._pruning_group(leader, indices).prune()

    def _pruning_group(self, leader: str, indices: Sequence[int]) -> tp.Group:
        module = self.model.get_submodule(leader)
        function = tp.prune_linear_out_channels if isinstance(module, nn.Linear) else _convolution_function(module)
        return self._graph.get_pruning_group(module, function, idxs=list(indices))

    def _members(self, group: tp.Group) -> list[Member]:
        members = []
        for dependency, indices in group:
            module = dependency.target.module
            name = self._names.get(module)
            if name is None:
                # Operations (add, concat, flatten) stand in the graph as modules of the library's own.
                if isinstance(module, nn.Parameter):
                    raise SurgeryRefusedError(
                        "the model reads a parameter outside any module, which cannot be pruned with its channels: "
                        "put it into a module"
                    )
                continue
            produces = self._graph.is_out_channel_pruning_fn(dependency.handler)
            _refuse(name, module)
            if isinstance(module, _TRANSPARENT):
                continue
            members.append(Member(name, module, tuple(int(index) for index in indices), produces))
        return members


def _convolution_function(module: nn.Module) -> object:
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return tp.prune_depthwise_conv_out_channels
    return tp.prune_conv_out_channels


def _refuse(name: str, module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d) and module.groups > 1 and module.groups != module.in_channels:
        raise SurgeryRefusedError(
            f"module {name}: a grouped convolution ({module.groups} groups) is not supported in this version; "
            "use a dense or a depthwise one"
        )
    if isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.InstanceNorm2d):
        raise SurgeryRefusedError(
            f"module {name}: {type(module).__name__} mixes channels, so removing some changes the others; "
            "this version prunes through batch norm only"
        )
