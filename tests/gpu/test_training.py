"""Fine-tuning on a real GPU."""

from __future__ import annotations

import pytest
import torch

from coppice_api.bundle import ArchitectureSource
from coppice_api.prunejob import FineTune
from coppice_pruner.data import digits
from coppice_pruner.models import build
from coppice_pruner.training import evaluate, fine_tune
from coppice_pruner.training.fine_tune import gains_from_bfloat16

SETTINGS = FineTune(epochs=4, learning_rate="0.01", batch_size=512)


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    source = ArchitectureSource(source="coppice://vgg", arguments={"widths": [[64], [128], [128]]})
    return build(source).cuda()


def test_it_learns_in_bfloat16_and_leaves_weights_of_full_precision(device: torch.device) -> None:
    network, data = model(), digits().to(device)
    assert gains_from_bfloat16(network, device)
    fine_tune(network, data, SETTINGS, seed=0)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert evaluate(network, data.evaluation, data.task).accuracy_ratio > 0.9


def test_a_batch_that_does_not_fit_into_memory_is_cut_and_still_learns(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the code: convolutions would else ask for workspaces of any size.
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    network, data = model(), digits().to(device)
    fine_tune(network, data, FineTune(epochs=1, batch_size=8), seed=0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    fine_tune(network, data, FineTune(epochs=1, batch_size=512), seed=0)
    resting, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    allowed = resting + (peak - resting) // 2
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(device).total_memory)
    try:
        done = fine_tune(network, data, SETTINGS, seed=0)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert done.micro_batch_size < SETTINGS.batch_size
    assert evaluate(network, data.evaluation, data.task).accuracy_ratio > 0.9
