"""Every architecture on a real GPU: pruned in width and depth and held to the masked dense model, joules by layer."""

from __future__ import annotations

import pytest
import torch

from coppice_pruner.deployment import folded
from coppice_pruner.measurement.workload import synchronize_of
from coppice_pruner.meters.nvml import NvmlMeter
from coppice_pruner.profiling import profile_layers
from coppice_pruner.surgery import TOLERANCE, Blueprint, inspect_groups
from tests.integration.architectures.instances import INSTANCES, Instance

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("instance", INSTANCES, ids=[item.source + item.name for item in INSTANCES])
def test_it_is_pruned_as_on_a_cpu(instance: Instance, device: torch.device) -> None:
    samples = tuple(item.to(device) for item in instance.samples(8, seed=2))
    dense = instance.load().module.to(device)
    inspection = inspect_groups(dense, samples)
    on_cpu = inspect_groups(instance.load().module, instance.samples(8, seed=2))
    assert [group.name for group in inspection.groups] == [group.name for group in on_cpu.groups]
    blueprint = Blueprint(inspection.groups, samples)
    halves = {
        group.name: tuple(sorted(index for atom in group.atoms[::2] for index in atom)) for group in inspection.groups
    }
    narrow = blueprint.prune(dense, {}, halves)
    blueprint.check(dense, narrow, {}, halves, samples)
    gone: dict[str, tuple[int, ...]] = {
        group.name: () for group in [item for item in inspection.groups if item.droppable][::2]
    }
    pruned = blueprint.prune(narrow, halves, gone)
    blueprint.check(narrow, pruned, halves, gone, samples)
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        want, got = pruned(*samples), folded(pruned, samples)(*samples)
    assert float((got - want).abs().max()) <= TOLERANCE * float(want.abs().max())


def test_the_layers_of_a_network_sum_to_its_joules(meter: NvmlMeter, device: torch.device) -> None:
    instance = next(item for item in INSTANCES if item.source == "torchvision://" and "bottlenecks" in item.name)
    samples = tuple(item.to(device) for item in instance.samples(256, seed=2))
    module = folded(instance.load().module.to(device), samples)
    profiles = profile_layers(
        module, samples, meter, window_seconds=0.1, least_window_seconds=50 * meter.update_period_seconds,
        budget_seconds=3.0, synchronize=synchronize_of(device),
    )  # fmt: skip
    assert sum(item.share for item in profiles) == pytest.approx(1.0)
    assert all(item.energy_joules > 0 for item in profiles)
